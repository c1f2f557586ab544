/** The three planes, drawn by NiiVue when something has changed, and the way between voxels and pixels. */

import { Niivue, type NVImage, SLICE_TYPE } from "@niivue/niivue";
import { Grid } from "./grid";
import { colourMask, createMask, patchMask } from "./mask";
import { addEmpty, type Plane, Planes } from "./planes";
import type { Region, Voxel } from "./types";

export type { Plane };
export type Layout = "all" | "axial";

/** Left, top, width and height in CSS pixels of the viewer. */
export type Rectangle = [left: number, top: number, width: number, height: number];

/** A place in the volume: shares of NiiVue's three axes. */
type Fractions = [number, number, number];

const PLANES: Record<Plane, { type: SLICE_TYPE; across: number; down: number }> = {
  axial: { type: SLICE_TYPE.AXIAL, across: 0, down: 1 },
  coronal: { type: SLICE_TYPE.CORONAL, across: 0, down: 2 },
  sagittal: { type: SLICE_TYPE.SAGITTAL, across: 1, down: 2 },
};

/** The planes that a zoomed picture follows, and the axes by which; two planes share each axis. */
const FOLLOWED: [Plane, number[]][] = [
  ["axial", [0, 1]],
  ["coronal", [2]],
];

const LAYOUTS: Record<Layout, { sliceType: SLICE_TYPE; position: [number, number, number, number] }[]> = {
  all: [
    { sliceType: SLICE_TYPE.AXIAL, position: [0, 0, 0.665, 1] },
    { sliceType: SLICE_TYPE.CORONAL, position: [0.67, 0, 0.33, 0.33] },
    { sliceType: SLICE_TYPE.SAGITTAL, position: [0.67, 0.335, 0.33, 0.33] },
  ],
  axial: [{ sliceType: SLICE_TYPE.AXIAL, position: [0, 0, 1, 1] }],
};

const SHOWN: Record<Layout, Plane[]> = { all: ["axial", "coronal", "sagittal"], axial: ["axial"] };

export const OPTIONS = {
  isRadiologicalConvention: true,
  crosshairWidth: 0,
  backColor: [0.027, 0.035, 0.047, 1] as [number, number, number, number],
  fontColor: [0.62, 0.62, 0.62, 1] as [number, number, number, number],
  fontMinPx: 11,
  fontSizeScaling: 0.2,
  dragAndDropEnabled: false,
  logLevel: "silent" as const,
  loadingText: "",
};

const MOST_ZOOM = 12;

export class Viewer {
  grid: Grid | null = null;
  cursor: Voxel = [0, 0, 0];
  layout: Layout = "all";
  /** Called after every drawing, to draw what lies over the planes. */
  afterDraw: () => void = () => undefined;

  /** What is shown, as it was decoded. */
  image: NVImage | null = null;

  private readonly nv = new Niivue({ ...OPTIONS, interactive: false });
  private planes: Planes | null = null;
  private frame = 0;
  private staleScene = false;
  private moved = false;

  async attach(canvas: HTMLCanvasElement): Promise<void> {
    await this.nv.attachToCanvas(canvas, false);
    this.nv.drawRimOpacity = 0.95;
    this.nv.setCustomLayout(LAYOUTS[this.layout]);
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Shows `image`; the first image of a case also makes room for its mask. */
  showImage(image: NVImage, newCase: boolean): void {
    if (newCase) {
      this.grid = new Grid(image);
      this.planes = new Planes(this.nv, this.grid);
      addEmpty(this.nv, image);
      createMask(this.nv);
      this.resetView();
    }
    this.image = image;
    this.planes!.show(image);
    this.draw();
  }

  clearImage(): void {
    this.nv.volumes = [];
    this.grid = this.planes = this.image = null;
    this.draw();
  }

  setWindow(low: number, high: number): void {
    this.planes?.setWindow(low, high);
    this.draw();
  }

  patchMask(mask: Uint8Array, slices: Iterable<number>): void {
    if (this.grid) {
      patchMask(this.nv, this.grid, mask, slices);
      this.draw();
    }
  }

  colourMask(regions: Region[], hidden: Set<string>, opacity: number): void {
    this.nv.drawOpacity = opacity;
    this.nv.drawRimOpacity = Math.min(1, 2 * opacity);
    colourMask(this.nv, regions, hidden);
    this.draw();
  }

  setLayout(layout: Layout): void {
    this.layout = layout;
    this.nv.setCustomLayout(LAYOUTS[layout]);
    this.draw();
  }

  /** Moves the crosshair to `voxel`, or to the nearest voxel inside the volume. */
  moveTo(voxel: Voxel): void {
    if (!this.grid) {
      return;
    }
    const shape = this.grid.shape;
    const before = this.cursor;
    this.cursor = voxel.map((place, n) => Math.min(shape[n]! - 1, Math.max(0, place))) as Voxel;
    this.nv.scene.crosshairPos = this.grid.fractions(this.cursor);
    this.moved = true;
    const shown = this.layout === "all" ? this.cursor : this.cursor.slice(0, 1); // the axial slice alone
    if (shown.some((place, n) => place !== before[n])) {
      this.draw();
    } else {
      this.drawMarks();
    }
  }

  /** The voxel and plane at a place of the viewer, or null beside the volume. */
  voxelAt(x: number, y: number): { voxel: Voxel; plane: Plane } | null {
    const fractions = this.fractionsAt(x, y);
    return fractions && this.grid ? { voxel: this.grid.voxel(fractions.at), plane: fractions.plane } : null;
  }

  /** The centre of `voxel` in CSS pixels of the viewer as `plane` shows it, or null where that plane is not shown. */
  positionOf(voxel: Voxel, plane: Plane): [x: number, y: number] | null {
    const tile = this.tile(plane);
    if (!tile || !this.grid) {
      return null;
    }
    const at = this.grid.fractions(voxel);
    const { across, down } = PLANES[plane];
    return [
      tile.x0 + (at[across]! - tile.first[across]!) * tile.perAcross,
      tile.y0 + (at[down]! - tile.first[down]!) * tile.perDown,
    ];
  }

  /** Where `plane` is drawn. */
  rectangle(plane: Plane): Rectangle | null {
    return this.tile(plane)?.rectangle ?? null;
  }

  /** Size in CSS pixels of a voxel of the axial slice: along columns, along rows. */
  voxelSize(): [number, number] {
    const tile = this.tile("axial");
    if (!tile || !this.grid) {
      return [1, 1];
    }
    const [, rows, columns] = this.grid.shape;
    return [Math.abs(tile.perAcross) / columns, Math.abs(tile.perDown) / rows];
  }

  /** Zooms by `factor` around a place of the viewer, or around the crosshair. */
  zoom(factor: number, x?: number, y?: number): void {
    if (!this.grid) {
      return;
    }
    const there = x === undefined || y === undefined ? null : this.fractionsAt(x, y);
    const anchor = this.nv.frac2mm(there ? there.at : this.grid.fractions(this.cursor));
    const [panX, panY, panZ, before] = this.nv.scene.pan2Dxyzmm as [number, number, number, number];
    const after = Math.min(MOST_ZOOM, Math.max(1, before * factor));
    const moved = [panX, panY, panZ].map((pan, n) => pan + anchor[n]! * (before - after));
    this.nv.scene.pan2Dxyzmm = after === 1 ? [0, 0, 0, 1] : [moved[0]!, moved[1]!, moved[2]!, after];
    this.draw();
  }

  /** Moves the picture so that what is at the first place comes to the second. */
  pan(fromX: number, fromY: number, toX: number, toY: number): void {
    const from = this.fractionsAt(fromX, fromY);
    const to = this.fractionsAt(toX, toY);
    if (!from || !to || from.plane !== to.plane) {
      return;
    }
    this.panBy(from.at, to.at, [0, 1, 2]);
    this.draw();
  }

  resetView(): void {
    this.nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    this.draw();
  }

  /** Draws planes and marks before the next frame, once for all that asked. */
  draw(): void {
    this.staleScene = true;
    this.drawMarks();
  }

  /** Draws the marks alone, which is quick. */
  drawMarks(): void {
    this.frame ||= requestAnimationFrame(() => this.drawNow());
  }

  /** Waits until what was drawn is in the canvas, for those who measure it. */
  finish(): void {
    this.nv.gl.readPixels(0, 0, 1, 1, this.nv.gl.RGBA, this.nv.gl.UNSIGNED_BYTE, new Uint8Array(4));
  }

  /** Moves pictures that are zoomed in, as they were drawn last, to the crosshair; whether one had to be. */
  private reveal(): boolean {
    if (!this.grid || this.nv.scene.pan2Dxyzmm[3] === 1) {
      return false;
    }
    const at = this.grid.fractions(this.cursor);
    let hidden = false;
    for (const [plane, axes] of FOLLOWED) {
      const rectangle = this.rectangle(plane);
      const place = this.positionOf(this.cursor, plane);
      if (rectangle && place && !inside(place, rectangle)) {
        const [left, top, width, height] = rectangle;
        const centre = this.fractionsAt(left + width / 2, top + height / 2);
        hidden ||= centre !== null;
        this.panBy(at, centre?.at ?? at, axes);
      }
    }
    return hidden;
  }

  /** Moves the picture along NiiVue's axes `axes` so that what is at the first fractions comes to the second. */
  private panBy(from: Fractions, to: Fractions, axes: number[]): void {
    const [first, last] = [this.nv.frac2mm(from), this.nv.frac2mm(to)];
    const pan = [...this.nv.scene.pan2Dxyzmm] as [number, number, number, number];
    for (const axis of axes) {
      pan[axis] = pan[axis]! + (last[axis]! - first[axis]!) * pan[3];
    }
    this.nv.scene.pan2Dxyzmm = pan;
  }

  private drawNow(): void {
    this.frame = 0;
    if (this.staleScene) {
      this.planes?.paint(this.cursor, SHOWN[this.layout]);
      this.nv.drawScene();
    }
    if (this.moved && this.reveal()) {
      this.nv.drawScene();
    }
    this.staleScene = this.moved = false;
    this.afterDraw();
  }

  private fractionsAt(x: number, y: number): { at: Fractions; plane: Plane } | null {
    if (!this.grid) {
      return null;
    }
    const dpr = this.nv.uiData.dpr ?? 1;
    const tile = this.nv.tileIndex(x * dpr, y * dpr);
    const plane = tile < 0 ? undefined : planeOf(this.nv.screenSlices[tile]!.axCorSag);
    if (!plane) {
      return null;
    }
    const [first, second, third] = this.nv.screenXY2TextureFrac(x * dpr, y * dpr, tile);
    return first! < 0 ? null : { at: [first!, second!, third!], plane };
  }

  /** Where a plane is drawn and how fractions become CSS pixels there; the planes are never oblique to the voxels. */
  private tile(plane: Plane) {
    const { type, across, down } = PLANES[plane];
    const number = this.nv.screenSlices.findIndex((tile) => tile.axCorSag === type);
    if (number < 0 || !this.grid) {
      return null;
    }
    const [left, top, width, height] = this.nv.screenSlices[number]!.leftTopWidthHeight as Rectangle;
    const first = this.nv.screenXY2TextureFrac(left + width / 4, top + height / 4, number, false);
    const last = this.nv.screenXY2TextureFrac(left + (3 * width) / 4, top + (3 * height) / 4, number, false);
    const dpr = this.nv.uiData.dpr ?? 1;
    return {
      rectangle: [left / dpr, top / dpr, width / dpr, height / dpr] as Rectangle,
      x0: (left + width / 4) / dpr,
      y0: (top + height / 4) / dpr,
      first,
      perAcross: width / 2 / dpr / (last[across]! - first[across]!),
      perDown: height / 2 / dpr / (last[down]! - first[down]!),
    };
  }
}

function planeOf(type: SLICE_TYPE): Plane | undefined {
  return (Object.keys(PLANES) as Plane[]).find((plane) => PLANES[plane].type === type);
}

function inside([x, y]: [number, number], [left, top, width, height]: Rectangle): boolean {
  return x >= left && x <= left + width && y >= top && y <= top + height;
}
