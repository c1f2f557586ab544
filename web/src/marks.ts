/** What is drawn over the planes: crosshair, prompts of the shown slice, the box or stroke being made. */

import type { Box, Point, Voxel } from "./types";
import type { Plane, Rectangle, Viewer } from "./viewer";

const PLANES: Plane[] = ["axial", "coronal", "sagittal"];
const POSITIVE = "#3ddc84";
const NEGATIVE = "#ff6b5e";
const BOX = "#f2c14e";
const CROSSHAIR = "rgb(120 200 255 / 55%)";
const HALO = "rgb(0 0 0 / 75%)";
const RADIUS = 6; // CSS pixels of a click

/** What there is to draw. */
export interface Marks {
  points: Point[];
  /** Clicks that the server has not answered. */
  waiting: Point[];
  boxes: Box[];
  /** The box being drawn. */
  draft: Box | null;
  /** Eraser in the axial slice: its place and its radius in millimetres. */
  eraser: { at: Voxel; radius: number } | null;
  /** Voxels of the stroke being drawn. */
  stroke: Voxel[];
  spacing: [number, number, number];
}

export class MarksLayer {
  private readonly context: CanvasRenderingContext2D;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly viewer: Viewer,
  ) {
    this.context = canvas.getContext("2d")!;
  }

  draw(marks: Marks): void {
    this.fit();
    for (const plane of PLANES) {
      const rectangle = this.viewer.rectangle(plane);
      if (!rectangle) {
        continue;
      }
      this.context.save();
      this.context.beginPath();
      this.context.rect(...rectangle);
      this.context.clip();
      this.drawCrosshair(plane, rectangle);
      if (plane === "axial") {
        this.drawPrompts(marks);
      }
      this.context.restore();
    }
  }

  private fit(): void {
    const { clientWidth, clientHeight } = this.canvas;
    const dpr = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(clientWidth * dpr);
    this.canvas.height = Math.round(clientHeight * dpr);
    this.context.setTransform(dpr, 0, 0, dpr, 0, 0);
  }

  private drawCrosshair(plane: Plane, [left, top, width, height]: Rectangle): void {
    const place = this.viewer.positionOf(this.viewer.cursor, plane);
    if (!place) {
      return;
    }
    const [x, y] = place;
    const gap = 9;
    this.line(CROSSHAIR, 1, [
      [left, y, x - gap, y],
      [x + gap, y, left + width, y],
      [x, top, x, y - gap],
      [x, y + gap, x, top + height],
    ]);
  }

  private drawPrompts(marks: Marks): void {
    const slice = this.viewer.cursor[0];
    for (const box of marks.boxes.filter((one) => one[0] <= slice && slice <= one[3])) {
      this.drawBox(box, slice, false);
    }
    if (marks.draft && marks.draft[0] === slice) {
      this.drawBox(marks.draft, slice, true);
    }
    for (const point of marks.points.filter((one) => one[0] === slice)) {
      this.drawPoint(point, 1);
    }
    for (const point of marks.waiting.filter((one) => one[0] === slice)) {
      this.drawPoint(point, 0.5);
    }
    if (marks.eraser) {
      this.drawStroke(marks.stroke, marks.eraser.radius, marks.spacing);
      this.drawEraser(marks.eraser.at, marks.eraser.radius, marks.spacing);
    }
  }

  private drawPoint([slice, row, column, label]: Point, opacity: number): void {
    const place = this.viewer.positionOf([slice, row, column], "axial");
    if (!place) {
      return;
    }
    const [x, y] = place;
    const context = this.context;
    context.globalAlpha = opacity;
    context.beginPath();
    context.arc(x, y, RADIUS, 0, 2 * Math.PI);
    context.fillStyle = label ? POSITIVE : NEGATIVE;
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = HALO;
    context.stroke();
    const bar = RADIUS - 3;
    this.line("#06120b", 2, [[x - bar, y, x + bar, y], ...(label ? [[x, y - bar, x, y + bar]] : [])]);
    context.globalAlpha = 1;
  }

  /** The box's outline runs along the outer edges of its first and last voxels. */
  private drawBox([, row0, column0, , row1, column1]: Box, slice: number, dashed: boolean): void {
    const first = this.viewer.positionOf([slice, Math.min(row0, row1), Math.min(column0, column1)], "axial");
    const last = this.viewer.positionOf([slice, Math.max(row0, row1), Math.max(column0, column1)], "axial");
    if (!first || !last) {
      return;
    }
    const [width, height] = this.viewer.voxelSize();
    const left = Math.min(first[0], last[0]) - width / 2;
    const top = Math.min(first[1], last[1]) - height / 2;
    const across = Math.abs(last[0] - first[0]) + width;
    const down = Math.abs(last[1] - first[1]) + height;
    const context = this.context;
    context.setLineDash(dashed ? [6, 4] : []);
    context.lineWidth = 3.5;
    context.strokeStyle = HALO;
    context.strokeRect(left, top, across, down);
    context.lineWidth = 1.8;
    context.strokeStyle = BOX;
    context.strokeRect(left, top, across, down);
    context.setLineDash([]);
  }

  private drawEraser(at: Voxel, radius: number, spacing: [number, number, number]): void {
    const place = this.viewer.positionOf(at, "axial");
    if (!place) {
      return;
    }
    const [width, height] = this.viewer.voxelSize();
    const context = this.context;
    context.beginPath();
    context.ellipse(...place, (radius / spacing[2]) * width, (radius / spacing[1]) * height, 0, 0, 2 * Math.PI);
    context.fillStyle = "rgb(255 255 255 / 8%)";
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = "#ffffff";
    context.stroke();
  }

  private drawStroke(stroke: Voxel[], radius: number, spacing: [number, number, number]): void {
    const places = stroke.map((voxel) => this.viewer.positionOf(voxel, "axial")).filter((place) => place !== null);
    if (!places.length) {
      return;
    }
    const context = this.context;
    context.beginPath();
    context.moveTo(...places[0]!);
    places.forEach((place) => context.lineTo(...place));
    context.lineWidth = (2 * radius * this.viewer.voxelSize()[0]) / spacing[2];
    context.lineCap = context.lineJoin = "round";
    context.strokeStyle = "rgb(255 255 255 / 35%)";
    context.stroke();
    context.lineCap = "butt";
  }

  private line(colour: string, width: number, pieces: number[][]): void {
    const context = this.context;
    context.beginPath();
    for (const [x0, y0, x1, y1] of pieces) {
      context.moveTo(x0!, y0!);
      context.lineTo(x1!, y1!);
    }
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke();
  }
}
