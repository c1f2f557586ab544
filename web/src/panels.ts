/** The controls around the pictures: they show the state of the page and change it. */

import type { App } from "./app";
import { element, make, modalityName, setText } from "./dom";
import { type Command, readable } from "./keys";
import { RADII } from "./tools";

const WINDOW_SPAN = 2.5; // of the sliders, in initial widths

export class Panels {
  private built = "";

  constructor(
    private readonly app: App,
    private readonly commands: Map<string, Command>,
    private readonly run: (command: Command) => void,
  ) {
    this.listen();
  }

  /** Shows what is the case now. */
  update(): void {
    this.build();
    this.updateButtons();
    this.updateRegions();
    this.updateSliders();
    this.updateNotices();
    this.updateFooter();
    this.app.cases.update();
  }

  private listen(): void {
    for (const button of document.querySelectorAll<HTMLButtonElement>("[data-command]")) {
      this.connect(button);
    }
    const slide = (id: string, change: (value: number) => void) => {
      const input = element<HTMLInputElement>(id);
      input.addEventListener("input", () => change(input.valueAsNumber));
    };
    slide("opacity", (percent) => this.app.setOpacity(percent / 100));
    slide("radius", (radius) => this.app.setRadius(radius));
    slide("slice", (slice) => this.app.step(slice - this.app.viewer.cursor[0], 0, 0));
    slide("level", (level) => this.slideWindow(level, null));
    slide("width", (width) => this.slideWindow(null, width));
  }

  private connect(button: HTMLButtonElement): void {
    button.addEventListener("click", (event) => {
      const command = this.commands.get(button.dataset["command"]!);
      if (command) {
        this.run(command);
      }
      if (event.detail > 0 && command?.id !== "help") {
        element("viewer").focus(); // after the mouse the keys belong to the picture again
      }
    });
  }

  private slideWindow(level: number | null, width: number | null): void {
    const now = this.app.windows[this.app.modality];
    if (now) {
      const centre = level ?? (now[0] + now[1]) / 2;
      const wide = width ?? now[1] - now[0];
      this.app.setWindow([centre - wide / 2, centre + wide / 2]);
    }
  }

  /** What depends on the model and the case's modalities, made once for each. */
  private build(): void {
    const { server, description } = this.app.session;
    const now = JSON.stringify([server?.model, description?.modalities]);
    if (!server || now === this.built) {
      return;
    }
    this.built = now;
    setText(element("model"), server.model.name);
    element("modalities").replaceChildren(
      ...[...this.commands.values()]
        .filter((command) => command.id.startsWith("modality-"))
        .map((command) => {
          const button = make("button", {}, command.says);
          button.dataset["command"] = command.id;
          this.connect(button);
          return button;
        }),
    );
    element("regions").replaceChildren(
      ...server.model.regions.map((region) => {
        const box = make("input", { type: "checkbox", checked: true });
        box.addEventListener("change", () => this.app.toggleRegion(region.name));
        box.dataset["region"] = region.name;
        const swatch = make("span", { className: "swatch" });
        swatch.style.background = region.colour;
        const volume = make("output");
        volume.dataset["volume"] = region.name;
        const name = make("span", { className: "region-name" }, region.label);
        return make("li", {}, make("label", {}, box, swatch, name, volume));
      }),
    );
  }

  private updateButtons(): void {
    const { app } = this;
    const pressed: Record<string, boolean> = {
      [`tool-${app.tools.tool}`]: true,
      [`modality-${app.modality}`]: true,
      [`layout-${app.viewer.layout}`]: true,
    };
    for (const button of document.querySelectorAll<HTMLButtonElement>("[data-command]")) {
      const command = this.commands.get(button.dataset["command"]!);
      if (!command) {
        continue;
      }
      const reason = command.reason?.() ?? null;
      button.setAttribute("aria-disabled", String(reason !== null));
      button.title = `${command.says} (${command.keys.map(readable).join(" or ")})${reason ? `: ${reason}` : ""}`;
      if (/^(tool|modality|layout)-/.test(command.id)) {
        button.setAttribute("aria-pressed", String(pressed[command.id] === true));
      }
    }
  }

  private updateRegions(): void {
    const { app } = this;
    const volumes = app.session.edit?.volumes ?? {};
    for (const region of app.session.server?.model.regions ?? []) {
      const name = CSS.escape(region.name);
      const volume = document.querySelector<HTMLElement>(`[data-volume="${name}"]`);
      const box = document.querySelector<HTMLInputElement>(`[data-region="${name}"]`);
      if (volume && box) {
        setText(volume, `${(volumes[region.name] ?? 0).toFixed(1)} ml`);
        box.checked = !app.hidden.has(region.name);
        box.setAttribute("aria-label", `Show ${region.label}`);
      }
    }
  }

  private updateSliders(): void {
    const { app } = this;
    set("opacity", 100 * app.opacity, app.maskVisible ? `${Math.round(100 * app.opacity)} %` : "hidden");
    set("radius", app.tools.radius, `${app.tools.radius} mm`, [RADII.least, RADII.most]);
    const initial = app.session.description?.window[app.modality];
    const window = app.windows[app.modality];
    setText(element("window-modality"), app.modality ? modalityName(app.modality) : "");
    if (initial && window) {
      const unit = initial[1] - initial[0];
      const [level, width] = [(window[0] + window[1]) / 2, window[1] - window[0]];
      set("level", level, short(level), [initial[0] - unit / 2, initial[0] + WINDOW_SPAN * unit]);
      set("width", width, short(width), [unit / 200, WINDOW_SPAN * unit]);
    }
  }

  private updateNotices(): void {
    const { server, description } = this.app.session;
    const missing = (description?.missing ?? []).map(modalityName);
    const notices = [
      ...(server?.model.warning ? [server.model.warning] : []),
      ...(missing.length ? [`This case has no ${missing.join(", ")}.`] : []),
      ...(description?.doubts ?? []),
    ];
    const box = element("notices");
    if (box.dataset["shown"] !== JSON.stringify(notices)) {
      box.dataset["shown"] = JSON.stringify(notices);
      box.replaceChildren(...notices.map((text) => make("p", { className: "notice" }, text)));
    }
  }

  private updateFooter(): void {
    const { app } = this;
    const { session, viewer } = app;
    const slices = session.description?.shape[0] ?? 1;
    const [slice, row, column] = viewer.cursor;
    set("slice", slice, `${slice + 1} / ${slices}`, [0, slices - 1]);
    setText(element("place"), `row ${row}, column ${column}`);
    setText(element("value"), app.value === null ? "" : `${modalityName(app.modality)} ${short(app.value)}`);
    const iou = Object.values(session.edit?.iou ?? {});
    setText(element("iou"), iou.length ? `predicted IoU ${iou.map((one) => one.toFixed(2)).join(" / ")}` : "");
    this.updateProgress();
    this.updateConnection();
    const note = element("note");
    setText(note, session.note?.text ?? "");
    note.className = session.note?.kind ?? "";
    note.title = session.note?.text ?? "";
    const empty = element("empty");
    empty.hidden = app.pictured;
    setText(empty, session.description ? `reading ${session.description.id}` : "no case is open");
  }

  private updateProgress(): void {
    const { session } = this.app;
    const { progress } = session;
    const job = progress?.job;
    const encoding = progress && progress.embedded < progress.slices;
    element("progress").hidden = !job && !encoding && !session.stoppable;
    const bar = element<HTMLProgressElement>("progress-bar");
    if (job || session.stoppable) {
      setText(element("progress-text"), job ? `${job.name} ${job.done} / ${job.total}` : `${session.running}`);
      fill(bar, job?.done, job?.total);
    } else if (encoding) {
      setText(element("progress-text"), `encoding slices ${progress.embedded} / ${progress.slices}`);
      fill(bar, progress.embedded, progress.slices);
    }
    element("stop").hidden = !session.stoppable;
  }

  private updateConnection(): void {
    const { connection } = this.app.session;
    const words = { connected: "autosaved", gone: "server gone", denied: "no token" }[connection];
    setText(element("connection"), words);
    element("connection").className = connection === "connected" ? "" : "gone";
    const banner = element("banner");
    banner.hidden = connection === "connected";
    setText(
      banner,
      connection === "denied"
        ? "This server wants its token: open the address that the command printed."
        : "The server is gone. Every edit it answered is on disk. New edits are possible when it is back.",
    );
  }
}

function set(id: string, value: number, text: string, limits?: [number, number]): void {
  const input = element<HTMLInputElement>(id);
  if (limits) {
    [input.min, input.max] = limits.map(String) as [string, string];
  }
  if (input.valueAsNumber !== value) {
    input.value = String(value);
  }
  input.setAttribute("aria-valuetext", text);
  setText(element(`${id}-value`), text);
}

function fill(bar: HTMLProgressElement, done: number | undefined, total: number | undefined): void {
  if (done === undefined || !total) {
    bar.removeAttribute("value");
  } else {
    bar.max = total;
    bar.value = done;
  }
}

function short(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
