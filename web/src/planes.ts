/**
 * The shown planes of the shown image in NiiVue's texture of the volume.
 *
 * NiiVue sends a whole volume to the graphics card and computes its colours and gradients there whenever modality or
 * window change, which takes seconds without a graphics card. Of a slice's view nothing but three planes is seen, so
 * these alone are coloured, here, before they are drawn.
 */

import type { Niivue, NVImage } from "@niivue/niivue";
import type { Grid } from "./grid";
import type { Voxel } from "./types";

const VOLUME = 0; // NiiVue's texture unit of the volume
const UINT8 = 2; // code of a NIfTI data type

/** Our axis that each plane stands on: its slice, row or column is shown. */
export const AXES = { axial: 0, coronal: 1, sagittal: 2 } as const;
export type Plane = keyof typeof AXES;

export class Planes {
  private image: NVImage | null = null;
  private window: [low: number, high: number] = [0, 1];
  /** The place along its axis of each plane that is painted as image and window are now. */
  private painted: Partial<Record<Plane, number>> = {};

  constructor(
    private readonly nv: Niivue,
    private readonly grid: Grid,
  ) {}

  show(image: NVImage): void {
    if (image !== this.image) {
      this.image = image;
      this.painted = {};
    }
  }

  /** Intensities from `low` (black) to `high` (white). */
  setWindow(low: number, high: number): void {
    if (low !== this.window[0] || high !== this.window[1]) {
      this.window = [low, high];
      this.painted = {};
    }
  }

  /** Paints those of the planes through `voxel` that are not painted. */
  paint(voxel: Voxel, planes: Iterable<Plane>): void {
    for (const plane of planes) {
      const place = voxel[AXES[plane]];
      if (this.image && this.painted[plane] !== place) {
        this.paintPlane(plane, place);
        this.painted[plane] = place;
      }
    }
  }

  private paintPlane(plane: Plane, place: number): void {
    const { first, size, origin, steps } = this.grid.plane(AXES[plane], place);
    const grey = this.greyOf();
    const stored = this.image!.img as ArrayLike<number>;
    const colours = new Uint32Array(size[0] * size[1] * size[2]);
    let to = 0;
    for (let z = 0; z < size[2]; z++) {
      for (let y = 0; y < size[1]; y++) {
        let from = origin + z * steps[2] + y * steps[1];
        for (let x = 0; x < size[0]; x++) {
          colours[to++] = grey(stored[from]!);
          from += steps[0];
        }
      }
    }
    const gl = this.nv.gl;
    gl.activeTexture(gl.TEXTURE0 + VOLUME);
    gl.bindTexture(gl.TEXTURE_3D, this.nv.volumeTexture);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 4);
    const bytes = new Uint8Array(colours.buffer);
    gl.texSubImage3D(gl.TEXTURE_3D, 0, ...first, ...size, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
  }

  /** Makes a stored value an opaque grey, 0xAABBGGRR. */
  private greyOf(): (stored: number) => number {
    const { scl_slope: slope, scl_inter: intercept } = this.image!.hdr!;
    const [low, high] = this.window;
    const scale = (255 * (slope || 1)) / (high - low);
    const shift = (255 * (intercept - low)) / (high - low);
    return (stored) => {
      const value = Math.min(255, Math.max(0, stored * scale + shift));
      return (Math.round(value) * 0x010101 | 0xff000000) >>> 0;
    };
  }
}

/** Gives NiiVue a volume with the place and size of `image`, and no voxels to work on. */
export function addEmpty(nv: Niivue, image: NVImage): void {
  const empty = Object.create(image) as NVImage;
  empty.hdr = Object.assign(Object.create(image.hdr) as NonNullable<NVImage["hdr"]>, {
    dims: [3, 1, 1, 1, 1, 1, 1, 1],
    datatypeCode: UINT8,
    numBitsPerVoxel: 8,
  });
  empty.img = new Uint8Array(1);
  nv.volumes = [];
  nv.addVolume(empty);
  empty.hdr = image.hdr;
  empty.img = image.img;
}
