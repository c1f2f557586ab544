/** All commands of the page with their keys; the help lists them, buttons and keys run them. */

import type { App } from "./app";
import { element, modalityName } from "./dom";
import type { Command } from "./keys";
import type { Tool } from "./tools";

const FAR = 10; // voxels of a step with Shift
const OPACITY_STEP = 0.1;
const WINDOW_STEP = 0.05;
const ZOOM_STEP = 1.25;
const TURN = 15; // degrees
const MODALITIES = ["t1", "t1gd", "t2", "flair"];

export function commandsOf(app: App): Command[] {
  return [...tools(app), ...edits(app), ...places(app), ...pictures(app), ...files(app)];
}

function tools(app: App): Command[] {
  const tool = (name: Tool, key: string, says: string): Command => ({
    id: `tool-${name}`,
    group: "Tools",
    says,
    keys: [key],
    run: () => app.setTool(name),
    reason: () => app.tools.reason(name),
  });
  const place = (id: string, says: string, keys: string[], inverse: boolean): Command => ({
    id,
    group: "Tools",
    says,
    keys,
    run: () => app.tools.place(inverse),
    reason: () => closed(app),
  });
  return [
    tool("positive", "P", "Positive click: this is tumour"),
    tool("negative", "N", "Negative click: this is not"),
    tool("box", "B", "Box around the tumour"),
    tool("eraser", "E", "Eraser"),
    tool("move", "M", "Move the crosshair"),
    place("place", "Use the tool at the crosshair (box: its two corners)", ["Enter", "Space"], false),
    place("place-inverse", "The same, positive and negative swapped", ["Shift+Enter", "Shift+Space"], true),
    {
      id: "eraser-smaller",
      group: "Tools",
      says: "Smaller eraser",
      keys: [","],
      run: () => app.setRadius(app.tools.radius - 1),
    },
    {
      id: "eraser-larger",
      group: "Tools",
      says: "Larger eraser",
      keys: ["."],
      run: () => app.setRadius(app.tools.radius + 1),
    },
    {
      id: "stop",
      group: "Tools",
      says: "Drop a box begun; stop what is running",
      keys: ["Escape"],
      run: () => {
        if (!app.tools.cancel()) {
          void app.session.stop();
        }
        element("viewer").focus();
      },
    },
  ];
}

function edits(app: App): Command[] {
  const { session } = app;
  const slice = () => app.viewer.cursor[0];
  const edit = (id: string, says: string, keys: string[], run: () => void, reason = () => closed(app)): Command => ({
    id,
    group: "Edits",
    says,
    keys,
    run,
    reason,
  });
  return [
    edit(
      "undo",
      "Undo",
      ["Ctrl+Z"],
      () => session.act("undo", {}),
      () => closed(app) ?? (session.edit?.undo ? null : "nothing to undo"),
    ),
    edit(
      "redo",
      "Redo",
      ["Ctrl+Shift+Z", "Ctrl+Y"],
      () => session.act("redo", {}),
      () => closed(app) ?? (session.edit?.redo ? null : "nothing to redo"),
    ),
    edit("propagate-up", "Propagate this slice upwards", ["U"], () =>
      session.act("propagate", { slice: slice(), direction: "up" }),
    ),
    edit("propagate-down", "Propagate this slice downwards", ["D"], () =>
      session.act("propagate", { slice: slice(), direction: "down" }),
    ),
    edit("propagate-3d", "Propagate all prompted slices through the volume", ["T"], () =>
      session.act("propagate", { slice: null, direction: "both" }),
    ),
    edit(
      "automatic",
      "Automatic proposal for the whole volume, to be corrected",
      ["A"],
      () => session.act("automatic", { postprocess: cleaned() }),
      () => closed(app) ?? app.tools.untrained("none"),
    ),
    edit("clear-slice", "Clear this slice", ["Delete"], () => session.act("clear", { slice: slice() })),
    edit("clear-case", "Clear the whole case", ["Shift+Delete"], () => session.act("clear", { slice: null })),
  ];
}

function places(app: App): Command[] {
  const step = (says: string, keys: string[], ...by: [number, number, number]): Command => ({
    id: `step ${by.join(" ")}`,
    group: "Crosshair and slices",
    says,
    keys,
    run: () => app.step(...by),
  });
  return [
    step("Left", ["ArrowLeft"], 0, 0, -1),
    step("Right", ["ArrowRight"], 0, 0, 1),
    step("To the front", ["ArrowUp"], 0, -1, 0),
    step("To the back", ["ArrowDown"], 0, 1, 0),
    step(`Left, ${FAR} voxels`, ["Shift+ArrowLeft"], 0, 0, -FAR),
    step(`Right, ${FAR} voxels`, ["Shift+ArrowRight"], 0, 0, FAR),
    step(`To the front, ${FAR} voxels`, ["Shift+ArrowUp"], 0, -FAR, 0),
    step(`To the back, ${FAR} voxels`, ["Shift+ArrowDown"], 0, FAR, 0),
    step("Next slice up", ["PageUp"], 1, 0, 0),
    step("Next slice down", ["PageDown"], -1, 0, 0),
    step("Top slice", ["Home"], Number.MAX_SAFE_INTEGER, 0, 0),
    step("Bottom slice", ["End"], -Number.MAX_SAFE_INTEGER, 0, 0),
  ];
}

function pictures(app: App): Command[] {
  const picture = (id: string, says: string, keys: string[], run: () => void): Command => ({
    id,
    group: "Picture",
    says,
    keys,
    run,
  });
  const regions = app.session.server?.model.regions ?? [];
  return [
    ...MODALITIES.map((modality, n) => ({
      ...picture(`modality-${modality}`, modalityName(modality), [`${n + 1}`], () => void app.setModality(modality)),
      reason: () => missing(app, modality),
    })),
    picture("layout-all", "Three planes and 3-D", ["V"], () => app.setLayout("all")),
    picture("layout-axial", "Axial slice alone", ["Shift+V"], () => app.setLayout("axial")),
    picture("level-down", "Level down", ["J"], () => app.changeWindow(-WINDOW_STEP, 0)),
    picture("level-up", "Level up", ["L"], () => app.changeWindow(WINDOW_STEP, 0)),
    picture("width-down", "Window narrower", ["K"], () => app.changeWindow(0, -WINDOW_STEP)),
    picture("width-up", "Window wider", ["I"], () => app.changeWindow(0, WINDOW_STEP)),
    picture("window-reset", "Initial window", ["W"], () => app.resetWindow()),
    picture("zoom-in", "Zoom in at the crosshair", ["+", "="], () => app.viewer.zoom(ZOOM_STEP)),
    picture("zoom-out", "Zoom out", ["-"], () => app.viewer.zoom(1 / ZOOM_STEP)),
    picture("zoom-reset", "Whole slice", ["0"], () => app.viewer.resetView()),
    picture("turn-left", "Turn the 3-D render left", ["Ctrl+ArrowLeft"], () => app.render.turn(-TURN, 0)),
    picture("turn-right", "Turn the 3-D render right", ["Ctrl+ArrowRight"], () => app.render.turn(TURN, 0)),
    picture("turn-up", "Turn the 3-D render up", ["Ctrl+ArrowUp"], () => app.render.turn(0, TURN)),
    picture("turn-down", "Turn the 3-D render down", ["Ctrl+ArrowDown"], () => app.render.turn(0, -TURN)),
    picture("mask", "Show or hide the mask", ["O"], () => app.toggleMask()),
    picture("opacity-down", "Mask fainter", ["["], () => app.setOpacity(app.opacity - OPACITY_STEP)),
    picture("opacity-up", "Mask stronger", ["]"], () => app.setOpacity(app.opacity + OPACITY_STEP)),
    ...regions.map((region, n) =>
      picture(`region-${region.name}`, `Show or hide ${region.label}`, [`Shift+${n + 1}`], () =>
        app.toggleRegion(region.name),
      ),
    ),
  ];
}

function files(app: App): Command[] {
  const file = (id: string, says: string, keys: string[], run: () => void): Command => ({
    id,
    group: "Cases",
    says,
    keys,
    run,
  });
  return [
    {
      ...file("save", "Save as NIfTI", ["Ctrl+S"], () => void app.session.save()),
      reason: () => closed(app) ?? (app.session.saving ? "saving" : null),
    },
    file("next-case", "Next case", ["Shift+PageDown"], () => app.cases.next(1)),
    file("previous-case", "Previous case", ["Shift+PageUp"], () => app.cases.next(-1)),
    file("help", "All keys", ["?", "H"], () => {
      element<HTMLDialogElement>("help").showModal();
      element("help-close").focus();
    }),
  ];
}

/** Why nothing can be edited now, or null. */
function closed(app: App): string | null {
  const { session } = app;
  if (session.connection !== "connected") {
    return "the server is gone";
  }
  return session.edit ? null : "no case is open";
}

function missing(app: App, modality: string): string | null {
  const description = app.session.description;
  return description && !description.modalities.includes(modality)
    ? `this case has no ${modalityName(modality)}`
    : null;
}

function cleaned(): "auto" | "none" {
  return element<HTMLInputElement>("postprocess").checked ? "auto" : "none";
}
