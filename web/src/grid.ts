/** Where a voxel of ours, (slice, row, column), lies in NiiVue's own order of a volume. */

import type { NVImage } from "@niivue/niivue";
import type { Voxel } from "./types";

/** NiiVue turns a volume so that its axes run to the right, anterior and superior. */
export class Grid {
  readonly shape: Voxel;
  /** For each of NiiVue's axes: which of ours (0 slice, 1 row, 2 column) it is, and whether it runs against it. */
  private readonly axes: { ours: 0 | 1 | 2; reversed: boolean }[];
  private readonly size: number[];

  constructor(image: NVImage) {
    const [, columns, rows, slices] = image.hdr!.dims as [number, number, number, number];
    this.shape = [slices, rows, columns];
    const strides = [columns * rows, columns, 1];
    this.axes = image.img2RASstep!.map((step) => ({
      ours: strides.indexOf(Math.abs(step)) as 0 | 1 | 2,
      reversed: step < 0,
    }));
    // With an axis of one voxel two strides are equal: then the order of the file holds.
    if (new Set(this.axes.map((axis) => axis.ours)).size < 3) {
      this.axes = [2, 1, 0].map((ours, n) => ({ ours: ours as 0 | 1 | 2, reversed: image.img2RASstep![n]! < 0 }));
    }
    this.size = this.axes.map((axis) => this.shape[axis.ours]);
  }

  /** Whether a slice of ours is one plane of NiiVue's last axis, and so one block of its memory. */
  get slicesAreBlocks(): boolean {
    return this.axes[2]!.ours === 0;
  }

  /** The place of slice `slice` along NiiVue's last axis. */
  block(slice: number): number {
    return this.axes[2]!.reversed ? this.shape[0] - 1 - slice : slice;
  }

  /** The voxel's centre as fractions of NiiVue's axes. */
  fractions(voxel: Voxel): [number, number, number] {
    const [x, y, z] = this.axes.map(({ ours, reversed }, n) => {
      const place = reversed ? this.size[n]! - 1 - voxel[ours] : voxel[ours];
      return (place + 0.5) / this.size[n]!;
    });
    return [x!, y!, z!];
  }

  /** The voxel that has these fractions of NiiVue's axes inside it. */
  voxel(fractions: ArrayLike<number>): Voxel {
    const voxel: Voxel = [0, 0, 0];
    this.axes.forEach(({ ours, reversed }, n) => {
      const size = this.size[n]!;
      const place = Math.min(size - 1, Math.max(0, Math.floor(fractions[n]! * size)));
      voxel[ours] = reversed ? size - 1 - place : place;
    });
    return voxel;
  }

  /**
   * The plane at `place` along our axis `axis`: where it begins and how large it is in NiiVue's order, and how the
   * file's voxels are walked in that order, from index `origin` by `steps`.
   */
  plane(axis: 0 | 1 | 2, place: number) {
    const [, rows, columns] = this.shape;
    const strides = [rows * columns, columns, 1];
    const first: [number, number, number] = [0, 0, 0];
    const size: [number, number, number] = [1, 1, 1];
    const steps: [number, number, number] = [0, 0, 0];
    let origin = 0;
    this.axes.forEach(({ ours, reversed }, n) => {
      const length = this.size[n]!;
      if (ours === axis) {
        first[n] = reversed ? length - 1 - place : place;
        origin += place * strides[ours]!;
      } else {
        size[n] = length;
        steps[n] = reversed ? -strides[ours]! : strides[ours]!;
        origin += reversed ? (length - 1) * strides[ours]! : 0;
      }
    });
    return { first, size, origin, steps };
  }

  /** Copies slice `slice` of `mask`, which is in our order, into `bitmap`, which is in NiiVue's. */
  copySlice(mask: Uint8Array, slice: number, bitmap: Uint8Array): void {
    const [, rows, columns] = this.shape;
    const strides = [1, this.size[0]!, this.size[0]! * this.size[1]!];
    const steps = [0, 0, 0];
    let origin = 0;
    this.axes.forEach(({ ours, reversed }, n) => {
      steps[ours] = reversed ? -strides[n]! : strides[n]!;
      origin += reversed ? (this.size[n]! - 1) * strides[n]! : 0;
    });
    let from = slice * rows * columns;
    for (let row = 0; row < rows; row++) {
      let to = origin + slice * steps[0]! + row * steps[1]!;
      for (let column = 0; column < columns; column++) {
        bitmap[to] = mask[from++]!;
        to += steps[2]!;
      }
    }
  }
}
