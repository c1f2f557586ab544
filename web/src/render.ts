/** The 3-D render: a second NiiVue in its own canvas, so that a click on a slice does not wait for it. */

import { Niivue, type NVImage, SLICE_TYPE } from "@niivue/niivue";
import { type Coarse, coarseImage, coarseMask, coarseOf } from "./coarse";
import { Grid } from "./grid";
import { colourMask, createMask } from "./mask";
import type { Region } from "./types";
import { OPTIONS } from "./viewer";

const BRAIN = 0.5; // opacity of what is not mask
const THIN = 4; // slices of a mask below which its surface is not smoothed: it would vanish
const SLOW = 120; // milliseconds of a drawing, above which it is drawn with fewer pixels
const FEWER = 0.5; // pixels of the canvas for each CSS pixel then
const QUIET = 500; // milliseconds without a change before it is drawn anew; thrice its own time if that is longer
const LONGEST_QUIET = 4000;

export class Render {
  private readonly nv = new Niivue({
    ...OPTIONS,
    sliceType: SLICE_TYPE.RENDER,
    forceDevicePixelRatio: -1,
  });
  private attached: Promise<void> | null = null;
  private visible = false;
  private timer = 0;
  private updating = false;
  private wanted: { image: NVImage; grid: Grid } | null = null;
  private shown: { of: NVImage; whole: Grid; coarse: Coarse; grid: Grid } | null = null;
  private mask: Uint8Array | null = null;
  private colours: { regions: Region[]; hidden: Set<string> } | null = null;
  /** Milliseconds that the last drawing took. */
  private took = 0;

  constructor(private readonly canvas: HTMLCanvasElement) {}

  setVisible(visible: boolean): void {
    this.visible = visible;
    this.later();
  }

  /** What to show from now on, with the mask that is set next. */
  show(image: NVImage, grid: Grid): void {
    this.wanted = { image, grid };
    this.mask = null;
    this.later();
  }

  setMask(mask: Uint8Array): void {
    this.mask = mask;
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
      const quiet = Math.min(LONGEST_QUIET, Math.max(QUIET, 3 * this.took));
      this.timer = window.setTimeout(() => void this.update(), quiet);
    }
  }

  private async update(): Promise<void> {
    if (this.updating) {
      this.later();
      return;
    }
    this.updating = true;
    this.attached ??= this.attach();
    await this.attached;
    const began = performance.now();
    await this.draw();
    await finished(this.nv.gl);
    this.took = performance.now() - began;
    if (this.took > SLOW && this.nv.opts.forceDevicePixelRatio !== FEWER) {
      this.nv.opts.forceDevicePixelRatio = FEWER;
      this.nv.resizeListener();
    }
    this.updating = false;
  }

  private async draw(): Promise<void> {
    if (this.wanted && this.wanted.image !== this.shown?.of) {
      const { image, grid } = this.wanted;
      const coarse = coarseOf(grid);
      const small = await coarseImage(image, grid, coarse);
      small.opacity = BRAIN;
      this.nv.volumes = [];
      this.nv.addVolume(small);
      createMask(this.nv);
      this.shown = { of: image, whole: grid, coarse, grid: new Grid(small) };
    }
    if (this.colours) {
      colourMask(this.nv, this.colours.regions, this.colours.hidden);
    }
    if (this.mask && this.shown) {
      const mask = coarseMask(this.mask, this.shown.whole.shape, this.shown.coarse);
      const [slices, rows, columns] = this.shown.coarse.shape;
      let thickness = 0;
      for (let slice = 0; slice < slices; slice++) {
        this.shown.grid.copySlice(mask, slice, this.nv.drawBitmap!);
        thickness += Number(mask.subarray(slice * rows * columns, (slice + 1) * rows * columns).some(Boolean));
      }
      this.nv.opts.smoothDrawing = thickness < THIN ? 0 : 1;
      this.nv.refreshDrawing(false); // smooths the surface too
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

/** Waits until the graphics card has done what it was told. */
async function finished(gl: WebGL2RenderingContext): Promise<void> {
  const fence = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0)!;
  gl.flush();
  do {
    await new Promise((resolve) => setTimeout(resolve, 10));
  } while (gl.getSyncParameter(fence, gl.SYNC_STATUS) !== gl.SIGNALED && !gl.isContextLost());
  gl.deleteSync(fence);
}
