/** The mask in NiiVue: its drawing, of which only what changed is sent to the graphics card. */

import type { Niivue } from "@niivue/niivue";
import type { Grid } from "./grid";
import type { Region } from "./types";

const DRAWING = 7; // NiiVue's texture unit of the drawing

/** Makes room for a mask of the size of the volume that is shown. */
export function createMask(nv: Niivue): void {
  nv.createEmptyDrawing();
  nv.drawClearAllUndoBitmaps(); // the server keeps the history
}

/** Copies the given slices of `mask`, (slice, row, column) in C order, into the drawing; the caller draws. */
export function patchMask(nv: Niivue, grid: Grid, mask: Uint8Array, slices: Iterable<number>): void {
  const changed = [...slices];
  if (!changed.length || !nv.drawBitmap) {
    return;
  }
  for (const slice of changed) {
    grid.copySlice(mask, slice, nv.drawBitmap);
  }
  if (!grid.slicesAreBlocks) {
    nv.refreshDrawing(false);
    return;
  }
  const blocks = changed.map((slice) => grid.block(slice));
  upload(nv, Math.min(...blocks), Math.max(...blocks));
}

function upload(nv: Niivue, first: number, last: number): void {
  const [, width, height] = nv.back!.dimsRAS as [number, number, number, number];
  const gl = nv.gl;
  const size = width * height;
  gl.activeTexture(gl.TEXTURE0 + DRAWING);
  gl.bindTexture(gl.TEXTURE_3D, nv.drawTexture);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  const block = nv.drawBitmap!.subarray(first * size, (last + 1) * size);
  gl.texSubImage3D(gl.TEXTURE_3D, 0, 0, 0, first, width, height, last - first + 1, gl.RED, gl.UNSIGNED_BYTE, block);
}

/** Each value of the mask gets the colour of the innermost visible region that contains it; the caller draws. */
export function colourMask(nv: Niivue, regions: Region[], hidden: Set<string>): void {
  const lut = nv.drawLut.lut;
  lut.fill(0);
  for (const region of [...regions].sort((a, b) => b.codes.length - a.codes.length)) {
    if (hidden.has(region.name)) {
      continue;
    }
    const [red, green, blue] = channels(region.colour);
    for (const code of region.codes) {
      lut.set([red, green, blue, 255], 4 * code);
    }
  }
  nv.refreshColormaps();
}

export function channels(colour: string): [number, number, number] {
  const value = parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
