/** Puts the page together: what is shown, and what each command does to it. */

import { Api } from "./api";
import { CaseList } from "./cases";
import { Images } from "./images";
import { type Layout, Viewer } from "./viewer";
import { MarksLayer } from "./marks";
import { element } from "./dom";
import { firstVoxel } from "./prompts";
import { Render } from "./render";
import { Session } from "./session";
import { RADII, type Tool, Tools } from "./tools";
import type { Action, Description, Voxel } from "./types";

/** Lowest and highest intensity that are shown. */
export type Window = [low: number, high: number];

const OPACITY = 0.45;
const SHOW_AFTER = 120; // milliseconds on a slice before the server is told
const PIXELS_PER_WINDOW = 300; // of a drag that widens the window by its initial width
const TIMINGS = 200; // kept at most

/** When an edit was asked for, answered and drawn, in milliseconds of the page's clock. */
export interface Timing {
  action: Action;
  asked: number;
  answered: number;
  drawn: number;
}

export class App {
  readonly api = new Api();
  readonly viewer = new Viewer();
  readonly render = new Render(element<HTMLCanvasElement>("render-canvas"));
  readonly session: Session;
  readonly tools: Tools;
  readonly cases: CaseList;
  readonly hidden = new Set<string>();
  readonly timings: Timing[] = [];
  opacity = OPACITY;
  maskVisible = true;
  modality = "";
  windows: Record<string, Window> = {};
  /** Whether the picture of `modality` is on the screen. */
  pictured = false;
  /** Called when something that the panels show has changed. */
  onChange: () => void = () => undefined;

  private readonly marks: MarksLayer;
  private images: Images | null = null;
  private imagesOf = "";
  private showTimer = 0;
  private shownSlice = -1;
  private answered: Omit<Timing, "drawn">[] = [];

  constructor() {
    this.session = new Session(this.api, {
      opened: (description, mask) => void this.opened(description, mask),
      patched: (mask, slices, by) => {
        this.answered.push({ action: by.action, asked: by.asked, answered: performance.now() });
        this.patched(mask, slices);
      },
      changed: () => this.changed(),
    });
    this.tools = new Tools(
      this.viewer,
      this.session,
      () => this.moved(),
      (level, width) => this.dragWindow(level, width),
    );
    this.cases = new CaseList(this.session);
    this.marks = new MarksLayer(element<HTMLCanvasElement>("marks"), this.viewer);
    this.viewer.afterDraw = () => this.drawn();
  }

  async start(wanted: string | null): Promise<void> {
    await this.viewer.attach(element<HTMLCanvasElement>("planes"));
    this.tools.listen(element("viewer"));
    element("render").addEventListener("mouseup", () => element("viewer").focus()); // the keys stay the page's
    this.setLayout("all");
    await this.session.start(wanted);
  }

  setTool(tool: Tool): void {
    this.tools.choose(tool);
    this.changed();
  }

  setRadius(radius: number): void {
    this.tools.radius = Math.min(RADII.most, Math.max(RADII.least, radius));
    this.changed();
  }

  setLayout(layout: Layout): void {
    this.viewer.setLayout(layout);
    element("render").hidden = layout !== "all";
    this.render.setVisible(layout === "all");
    this.changed();
  }

  /** Moves the crosshair by voxels. */
  step(slices: number, rows: number, columns: number): void {
    const [slice, row, column] = this.viewer.cursor;
    this.goTo([slice + slices, row + rows, column + columns]);
  }

  goTo(voxel: Voxel): void {
    this.viewer.moveTo(voxel);
    this.tools.followed();
    this.moved();
  }

  async setModality(modality: string): Promise<void> {
    const images = this.images;
    if (!images || !this.session.description?.modalities.includes(modality)) {
      return;
    }
    this.modality = modality;
    this.changed();
    await this.session.attempt(async () => {
      const image = await images.get(modality);
      if (this.pictured && images === this.images && modality === this.modality) {
        this.picture(image);
      }
    });
  }

  setWindow(window: Window): void {
    this.windows[this.modality] = window;
    this.viewer.setWindow(...window);
    this.changed();
  }

  resetWindow(): void {
    const initial = this.session.description?.window[this.modality];
    if (initial) {
      this.setWindow([...initial]);
    }
  }

  /** Moves the level and widens the window by shares of the initial width. */
  changeWindow(level: number, width: number): void {
    const initial = this.session.description?.window[this.modality];
    const now = this.windows[this.modality];
    if (!initial || !now) {
      return;
    }
    const unit = initial[1] - initial[0];
    const centre = (now[0] + now[1]) / 2 + level * unit;
    const wide = Math.max(unit / 200, now[1] - now[0] + width * unit);
    this.setWindow([centre - wide / 2, centre + wide / 2]);
  }

  setOpacity(opacity: number): void {
    this.opacity = Math.min(1, Math.max(0, opacity));
    this.maskVisible = true;
    this.colour();
  }

  toggleMask(): void {
    this.maskVisible = !this.maskVisible;
    this.colour();
  }

  toggleRegion(name: string): void {
    if (!this.hidden.delete(name)) {
      this.hidden.add(name);
    }
    this.colour();
  }

  /** The intensity of the shown modality at the crosshair. */
  get value(): number | null {
    const image = this.viewer.image;
    const grid = this.viewer.grid;
    if (!image?.img || !grid) {
      return null;
    }
    const [slice, row, column] = this.viewer.cursor;
    const stored = image.img[(slice * grid.shape[1] + row) * grid.shape[2] + column];
    const slope = image.hdr!.scl_slope || 1;
    return stored === undefined ? null : Number(stored) * slope + image.hdr!.scl_inter;
  }

  private async opened(description: Description, mask: Uint8Array): Promise<void> {
    const again = this.imagesOf === description.id;
    if (again) {
      this.patched(mask, this.allSlices(description));
    } else {
      this.begin(description);
    }
    const images = this.images!;
    await this.session.attempt(async () => {
      if (!this.pictured) {
        const modality = this.modality;
        const image = await images.get(modality);
        if (images !== this.images || this.pictured) {
          return;
        }
        this.modality = modality;
        this.pictured = true;
        this.viewer.showImage(image, true);
        this.picture(image);
        this.viewer.patchMask(this.session.mask, this.allSlices(description));
        this.render.show(image, this.viewer.grid!);
        this.render.setMask(this.session.mask);
        this.colour();
        this.goTo(firstVoxel(description, this.session.mask));
      }
      await images.getAll();
    });
  }

  private begin(description: Description): void {
    location.hash = encodeURIComponent(description.id);
    document.title = `${description.id} - samjax`;
    this.tools.cancel();
    this.imagesOf = description.id;
    this.images = new Images(this.api, description);
    this.pictured = false;
    this.shownSlice = -1;
    this.viewer.clearImage();
    this.windows = Object.fromEntries(
      Object.entries(description.window).map(([name, window]) => [name, [...window] as Window]),
    );
    if (!description.modalities.includes(this.modality)) {
      this.modality = description.modalities.includes("flair") ? "flair" : description.modalities[0]!;
    }
    this.changed();
  }

  private picture(image: Awaited<ReturnType<Images["get"]>>): void {
    this.viewer.showImage(image, false);
    this.viewer.setWindow(...this.windows[this.modality]!);
    this.changed();
  }

  private allSlices(description: Description): number[] {
    return Array.from({ length: description.shape[0] }, (_, slice) => slice);
  }

  private patched(mask: Uint8Array, slices: number[]): void {
    this.viewer.patchMask(mask, slices);
    this.render.setMask(mask);
    this.changed();
  }

  private colour(): void {
    const regions = this.session.server?.model.regions ?? [];
    this.viewer.colourMask(regions, this.hidden, this.maskVisible ? this.opacity : 0);
    this.render.colourMask(regions, this.hidden);
    this.changed();
  }

  private dragWindow(up: number, right: number): void {
    this.changeWindow(up / PIXELS_PER_WINDOW, right / PIXELS_PER_WINDOW);
  }

  private moved(): void {
    clearTimeout(this.showTimer);
    const [slice] = this.viewer.cursor;
    if (slice !== this.shownSlice) {
      this.showTimer = window.setTimeout(() => {
        this.shownSlice = slice;
        void this.session.shown(slice);
      }, SHOW_AFTER);
    }
    this.changed();
  }

  private changed(): void {
    this.viewer.drawMarks();
    this.onChange();
  }

  private drawn(): void {
    const edit = this.session.edit;
    const description = this.session.description;
    const erasing = this.tools.tool === "eraser";
    const at = this.tools.hover ?? (document.activeElement === element("viewer") ? this.viewer.cursor : null);
    this.marks.draw({
      points: edit?.prompts.points ?? [],
      waiting: this.session.waitingPoints,
      boxes: edit?.prompts.boxes ?? [],
      draft: this.tools.draft,
      eraser: erasing && at ? { at, radius: this.tools.radius } : null,
      stroke: this.tools.stroke,
      spacing: description?.spacing ?? [1, 1, 1],
    });
    for (const one of this.answered.splice(0)) {
      this.timings.push({ ...one, drawn: performance.now() });
      this.timings.splice(0, this.timings.length - TIMINGS);
    }
  }
}
