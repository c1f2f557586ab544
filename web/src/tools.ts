/** What the mouse and the keyboard's crosshair do with the chosen tool. */

import type { Session } from "./session";
import type { Box, PromptKind, Voxel } from "./types";
import type { Viewer } from "./viewer";

export type Tool = "positive" | "negative" | "box" | "eraser" | "move";

export const RADII = { least: 1, most: 30, start: 5 }; // millimetres

const NEEDS: Partial<Record<Tool, PromptKind>> = { positive: "point", negative: "point", box: "box" };
const UNTRAINED: Record<PromptKind, string> = {
  none: "makes no proposal of its own: it was trained with prompts alone",
  point: "was not trained with clicks",
  box: "was not trained with boxes",
  mask: "was not trained with masks",
};
const LONGEST_STROKE = 1000; // voxels that are erased at once; the server takes 2000
const WHEEL_STEP = 40; // of the wheel's own units, for one slice

export class Tools {
  tool: Tool = "positive";
  radius = RADII.start;
  /** The box or stroke that is being made. */
  draft: Box | null = null;
  stroke: Voxel[] = [];
  /** Where the pointer is over the axial slice. */
  hover: Voxel | null = null;

  private drag: { button: number; x: number; y: number } | null = null;
  private wheel = 0;

  constructor(
    private readonly viewer: Viewer,
    private readonly session: Session,
    private readonly moved: () => void,
    private readonly windowed: (level: number, width: number) => void,
  ) {}

  /** Why the model takes no prompts of this tool, or null. */
  reason(tool: Tool): string | null {
    const kind = NEEDS[tool];
    return kind ? this.untrained(kind) : null;
  }

  /** Why there is no such prompt for this model, or null. */
  untrained(kind: PromptKind): string | null {
    const model = this.session.server?.model;
    return model && !model.prompts.includes(kind) ? `${model.name} ${UNTRAINED[kind]}` : null;
  }

  choose(tool: Tool): void {
    this.cancel();
    this.tool = tool;
  }

  /** Drops the box or stroke that is being made; whether there was one. */
  cancel(): boolean {
    const had = this.draft !== null || this.stroke.length > 0;
    this.draft = null;
    this.stroke = [];
    this.drag = null;
    this.viewer.drawMarks();
    return had;
  }

  /** Places the tool at the crosshair, as Enter does; `inverse` turns a positive click into a negative one and back. */
  place(inverse: boolean): void {
    const [slice, row, column] = this.viewer.cursor;
    if (this.tool === "positive" || this.tool === "negative") {
      this.click(this.viewer.cursor, (this.tool === "positive") !== inverse);
    } else if (this.tool === "eraser") {
      this.erase(slice, [[row, column]]);
    } else if (this.tool === "box" && this.draft) {
      this.endBox();
    } else if (this.tool === "box") {
      this.draft = [slice, row, column, slice, row, column];
      this.viewer.drawMarks();
    }
  }

  /** The crosshair has moved by keys: the box being made follows it, and ends with its slice. */
  followed(): void {
    if (this.draft) {
      const [slice, row, column] = this.viewer.cursor;
      this.draft = this.draft[0] === slice ? [slice, this.draft[1], this.draft[2], slice, row, column] : null;
    }
  }

  listen(surface: HTMLElement): void {
    surface.addEventListener("pointerdown", (event) => this.down(event, surface));
    surface.addEventListener("pointermove", (event) => this.move(event, surface));
    surface.addEventListener("pointerup", (event) => this.up(event, surface));
    surface.addEventListener("pointercancel", () => this.cancel());
    surface.addEventListener("pointerleave", () => {
      this.hover = null;
      this.viewer.drawMarks();
    });
    surface.addEventListener("wheel", (event) => this.roll(event, surface), { passive: false });
    surface.addEventListener("contextmenu", (event) => event.preventDefault());
    surface.addEventListener("auxclick", (event) => event.preventDefault());
  }

  private down(event: PointerEvent, surface: HTMLElement): void {
    surface.focus();
    event.preventDefault();
    const [x, y] = place(event, surface);
    surface.setPointerCapture(event.pointerId);
    this.drag = { button: event.button, x, y };
    const there = this.viewer.voxelAt(x, y);
    if (event.button !== 0 || !there) {
      return;
    }
    this.goTo(there.voxel);
    const [slice, row, column] = there.voxel;
    if (this.tool === "positive" || this.tool === "negative") {
      this.click(there.voxel, (this.tool === "positive") !== event.shiftKey);
    } else if (there.plane === "axial" && this.tool === "box") {
      this.draft = [slice, row, column, slice, row, column];
    } else if (there.plane === "axial" && this.tool === "eraser") {
      this.stroke = [there.voxel];
    }
  }

  private move(event: PointerEvent, surface: HTMLElement): void {
    const [x, y] = place(event, surface);
    const there = this.viewer.voxelAt(x, y);
    this.hover = there?.plane === "axial" ? there.voxel : null;
    if (this.tool === "eraser") {
      this.viewer.drawMarks();
    }
    const drag = this.drag;
    if (!drag) {
      return;
    }
    if (drag.button === 2) {
      this.windowed(drag.y - y, x - drag.x);
    } else if (drag.button === 1) {
      this.viewer.pan(drag.x, drag.y, x, y);
    } else if (there) {
      this.dragTool(there.voxel, there.plane === "axial");
    }
    [drag.x, drag.y] = [x, y];
  }

  private dragTool(voxel: Voxel, axial: boolean): void {
    if (this.tool === "move") {
      this.goTo(voxel);
    } else if (axial && this.draft) {
      this.draft = [this.draft[0], this.draft[1], this.draft[2], this.draft[0], voxel[1], voxel[2]];
      this.viewer.drawMarks();
    } else if (axial && this.stroke.length) {
      const last = this.stroke.at(-1)!;
      if (last[1] !== voxel[1] || last[2] !== voxel[2]) {
        this.stroke.push(voxel);
      }
      if (this.stroke.length >= LONGEST_STROKE) {
        this.endStroke();
        this.stroke = [voxel];
      }
      this.viewer.drawMarks();
    }
  }

  private up(event: PointerEvent, surface: HTMLElement): void {
    surface.releasePointerCapture(event.pointerId);
    const pointed = this.drag?.button === 0;
    this.drag = null;
    if (pointed && this.draft) {
      this.endBox();
    } else if (pointed && this.stroke.length) {
      this.endStroke();
    }
  }

  private roll(event: WheelEvent, surface: HTMLElement): void {
    event.preventDefault();
    const [x, y] = place(event, surface);
    if (event.ctrlKey) {
      this.viewer.zoom(Math.exp(-event.deltaY / 300), x, y);
      return;
    }
    this.wheel -= event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1);
    const steps = Math.trunc(this.wheel / WHEEL_STEP);
    this.wheel -= steps * WHEEL_STEP;
    if (steps) {
      const [slice, row, column] = this.viewer.cursor;
      const plane = this.viewer.voxelAt(x, y)?.plane ?? "axial";
      const to: Record<typeof plane, Voxel> = {
        axial: [slice + steps, row, column],
        coronal: [slice, row - steps, column],
        sagittal: [slice, row, column + steps],
      };
      this.goTo(to[plane]);
    }
  }

  private goTo(voxel: Voxel): void {
    this.viewer.moveTo(voxel);
    this.moved();
  }

  private click([slice, row, column]: Voxel, positive: boolean): void {
    this.prompt("positive", () => this.session.act("click", { slice, row, column, positive }));
  }

  private endBox(): void {
    const [slice, row0, column0, , row1, column1] = this.draft!;
    this.draft = null;
    this.viewer.drawMarks();
    if (row0 === row1 || column0 === column1) {
      this.session.say("a box needs two corners: drag from one to the other", "error");
      return;
    }
    const first = [slice, Math.min(row0, row1), Math.min(column0, column1)];
    const last = [slice, Math.max(row0, row1), Math.max(column0, column1)];
    this.prompt("box", () => this.session.act("box", { first, last }));
  }

  private endStroke(): void {
    const [slice] = this.stroke[0]!;
    this.erase(
      slice,
      this.stroke.map(([, row, column]) => [row, column]),
    );
    this.stroke = [];
  }

  private erase(slice: number, stroke: [number, number][]): void {
    this.session.act("erase", { slice, stroke, radius: this.radius });
  }

  private prompt(tool: Tool, act: () => void): void {
    const reason = this.reason(tool);
    if (reason) {
      this.session.say(reason, "error");
    } else {
      act();
    }
  }
}

function place(event: MouseEvent, surface: HTMLElement): [number, number] {
  const { left, top } = surface.getBoundingClientRect();
  return [event.clientX - left, event.clientY - top];
}
