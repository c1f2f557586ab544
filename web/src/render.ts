/** The 3-D render: a second NiiVue in its own canvas, so that a click on a slice does not wait for it. */

import { Niivue, type NVImage, SLICE_TYPE } from "@niivue/niivue";
import type { Grid } from "./grid";
import { colourMask, createMask } from "./mask";
import type { Region } from "./types";
import { OPTIONS } from "./viewer";

const BRAIN = 0.5; // opacity of what is not mask
const QUIET = 500; // milliseconds without a change before it is drawn anew

export class Render {
  private readonly nv = new Niivue({
    ...OPTIONS,
    sliceType: SLICE_TYPE.RENDER,
    forceDevicePixelRatio: -1,
    smoothDrawing: 1,
  });
  private attached: Promise<void> | null = null;
  private visible = false;
  private timer = 0;
  private image: NVImage | null = null;
  private shown: NVImage | null = null; // of `image`
  private grid: Grid | null = null;
  private shownGrid: Grid | null = null;
  private mask: Uint8Array | null = null;
  private changed = new Set<number>();
  private colours: { regions: Region[]; hidden: Set<string> } | null = null;

  constructor(private readonly canvas: HTMLCanvasElement) {}

  setVisible(visible: boolean): void {
    this.visible = visible;
    this.later();
  }

  /** What to show from now on. */
  show(image: NVImage | null, grid: Grid | null, mask: Uint8Array | null): void {
    if (grid !== this.grid) {
      this.changed = new Set(Array.from({ length: grid?.shape[0] ?? 0 }, (_, slice) => slice));
    }
    [this.image, this.grid, this.mask] = [image, grid, mask];
    this.later();
  }

  patchMask(mask: Uint8Array, slices: Iterable<number>): void {
    this.mask = mask;
    for (const slice of slices) {
      this.changed.add(slice);
    }
    this.later();
  }

  colourMask(regions: Region[], hidden: Set<string>): void {
    this.colours = { regions, hidden };
    this.later();
  }

  /** Turns it by degrees around the vertical and the horizontal axis. */
  turn(azimuth: number, elevation: number): void {
    const { renderAzimuth, renderElevation } = this.nv.scene;
    if (this.visible && this.shown) {
      this.nv.setRenderAzimuthElevation(renderAzimuth + azimuth, renderElevation + elevation);
    }
  }

  private later(): void {
    clearTimeout(this.timer);
    if (this.visible) {
      this.timer = window.setTimeout(() => void this.update(), QUIET);
    }
  }

  private async update(): Promise<void> {
    this.attached ??= this.attach();
    await this.attached;
    if (!this.image || !this.grid) {
      return;
    }
    if (this.shownGrid !== this.grid) {
      this.nv.volumes = [];
      this.nv.addVolume(translucent(this.image));
      createMask(this.nv);
    } else if (this.shown !== this.image) {
      const image = translucent(this.image);
      this.nv.volumes = [image];
      this.nv.back = image;
      this.nv.updateGLVolume();
    }
    [this.shown, this.shownGrid] = [this.image, this.grid];
    if (this.colours) {
      colourMask(this.nv, this.colours.regions, this.colours.hidden);
    }
    if (this.mask) {
      for (const slice of this.changed) {
        this.grid.copySlice(this.mask, slice, this.nv.drawBitmap!);
      }
      this.changed.clear();
      this.nv.refreshDrawing(false); // smooths its surface too
    }
    this.nv.drawScene();
  }

  private async attach(): Promise<void> {
    await this.nv.attachToCanvas(this.canvas, false);
    this.canvas.tabIndex = -1;
    this.nv.drawOpacity = 1;
    this.nv.setRenderAzimuthElevation(130, 15);
  }
}

/** The same image with an opacity of its own, as the planes show it opaque. */
function translucent(image: NVImage): NVImage {
  return Object.assign(Object.create(image) as NVImage, { opacity: BRAIN });
}
