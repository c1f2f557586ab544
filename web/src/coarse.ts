/** Every second voxel of a large volume: enough for the small 3-D render, and an eighth of the work. */

import { NVImage } from "@niivue/niivue";
import type { Grid } from "./grid";

const FINE = 128; // voxels of an axis above which every second one is left out

type Shape = [slices: number, rows: number, columns: number];

/** The part of `grid`'s voxels that is kept: every `step`-th along (slice, row, column). */
export interface Coarse {
  step: Shape;
  shape: Shape;
}

export function coarseOf(grid: Grid): Coarse {
  const step = grid.shape.map((length) => (length > FINE ? 2 : 1)) as Shape;
  return { step, shape: grid.shape.map((length, n) => Math.ceil(length / step[n]!)) as Shape };
}

/** The kept voxels of `image` as an image of their own, in the same place. */
export async function coarseImage(image: NVImage, grid: Grid, { step, shape }: Coarse): Promise<NVImage> {
  const hdr = image.hdr!;
  const voxels = pick(image.img as Uint8Array, grid.shape, { step, shape }); // or an array of another type
  const [slices, rows, columns] = shape;
  // Columns of the affine: along NIfTI's i (our columns), j (rows) and k (slices).
  const affine = hdr.affine.map((row, n) =>
    n === 3 ? [...row] : [row[0]! * step[2], row[1]! * step[1], row[2]! * step[0], row[3]!],
  );
  const sides = [1, 2, 3].map((n) => hdr.pixDims[n]! * step[3 - n]!);
  const bytes = NVImage.createNiftiArray([columns, rows, slices], sides, affine.flat(), hdr.datatypeCode, voxels);
  const file = new File([bytes as Uint8Array<ArrayBuffer>], "coarse.nii");
  const coarse = await NVImage.loadFromFile({ file, name: file.name, colormap: "gray" });
  [coarse.hdr!.scl_slope, coarse.hdr!.scl_inter] = [hdr.scl_slope, hdr.scl_inter];
  [coarse.cal_min, coarse.cal_max] = [image.cal_min, image.cal_max];
  return coarse;
}

/** The mask for the kept voxels: the largest code among each and those left out after it, so that thin parts stay. */
export function coarseMask(mask: Uint8Array, whole: Shape, { step, shape }: Coarse): Uint8Array {
  const kept = new Uint8Array(shape[0] * shape[1] * shape[2]);
  let from = 0;
  for (let slice = 0; slice < whole[0]; slice++) {
    for (let row = 0; row < whole[1]; row++) {
      const line = (Math.floor(slice / step[0]) * shape[1] + Math.floor(row / step[1])) * shape[2];
      for (let column = 0; column < whole[2]; column++) {
        const code = mask[from++]!;
        if (code) {
          const to = line + Math.floor(column / step[2]);
          kept[to] = Math.max(kept[to]!, code);
        }
      }
    }
  }
  return kept;
}

/** The kept ones of `voxels`, both (slice, row, column) in C order. */
function pick<T extends Uint8Array>(voxels: T, whole: Shape, { step, shape }: Coarse): T {
  const kept = new (voxels.constructor as new (length: number) => T)(shape[0] * shape[1] * shape[2]);
  let to = 0;
  for (let slice = 0; slice < shape[0]; slice++) {
    for (let row = 0; row < shape[1]; row++) {
      let from = (slice * step[0] * whole[1] + row * step[1]) * whole[2];
      for (let column = 0; column < shape[2]; column++) {
        kept[to++] = voxels[from]!;
        from += step[2];
      }
    }
  }
  return kept;
}
