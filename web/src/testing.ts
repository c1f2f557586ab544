/**
 * `window.samjax`: what a test of the page in a browser reads, because pixels of the planes are no elements.
 * The page itself does not use it.
 */

import type { App, Timing } from "./app";
import type { Voxel } from "./types";
import type { Plane } from "./viewer";

export interface Hook {
  /** The crosshair's voxel: slice, row, column. */
  cursor(): Voxel;
  /** The version of the case that is shown, or null while none is open. */
  version(): number | null;
  /** Whether the case is open, its picture shown, and no edit on its way. */
  idle(): boolean;
  /** Where a voxel's centre is on the page, in CSS pixels; null if its plane is not shown. */
  pagePosition(voxel: Voxel, plane: Plane): [x: number, y: number] | null;
  /** The mask as the page has it. */
  mask(): Uint8Array;
  /** When the last edits were asked for, answered and drawn, in milliseconds of the page's clock. */
  timings(): Timing[];
  /** Waits until the planes as they were drawn last are in the canvas, and returns the page's clock. */
  finished(): number;
}

declare global {
  interface Window {
    samjax: Hook;
  }
}

export function publish(app: App): void {
  window.samjax = {
    cursor: () => app.viewer.cursor,
    version: () => app.session.edit?.version ?? null,
    idle: () => app.pictured && app.session.running === null && app.session.connection === "connected",
    pagePosition: (voxel, plane) => {
      const place = app.viewer.positionOf(voxel, plane);
      const { left, top } = document.getElementById("viewer")!.getBoundingClientRect();
      return place && [left + place[0], top + place[1]];
    },
    mask: () => app.session.mask,
    timings: () => app.timings,
    finished: () => {
      app.viewer.finish();
      return performance.now();
    },
  };
}
