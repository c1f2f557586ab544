/** Prompts of edits on their way, and where a case with prompts is looked at first. */

import type { Action, Description, Edit, Point, Voxel } from "./types";

/** An edit on its way; `asked` is when, in milliseconds of the page's clock. */
export interface Sent {
  action: Action;
  body: object;
  asked: number;
}

/** Whether the prompts of `edit` have what was sent, as far as they can tell. */
export function holds(edit: Edit, { action, body }: Sent): boolean {
  const has = (prompts: number[][], wanted: number[]) => prompts.some((one) => one.join() === wanted.join());
  if (action === "click") {
    return has(edit.prompts.points, pointOf(body));
  }
  if (action === "box") {
    const { first, last } = body as { first: number[]; last: number[] };
    return has(edit.prompts.boxes, [...first, ...last]);
  }
  return true;
}

/** The point that a click makes. */
export function pointOf(body: object): Point {
  const { slice, row, column, positive } = body as { slice: number; row: number; column: number; positive: boolean };
  return [slice, row, column, positive ? 1 : 0];
}

/** The voxel where a case is best looked at first: on its last prompt, else the middle of its mask, else its centre. */
export function firstVoxel(description: Description, mask: Uint8Array): Voxel {
  const [slices, rows, columns] = description.shape;
  const point = description.prompts.points.at(-1);
  if (point) {
    return [point[0], point[1], point[2]];
  }
  const box = description.prompts.boxes.at(-1);
  if (box) {
    return [box[0], Math.round((box[1] + box[4]) / 2), Math.round((box[2] + box[5]) / 2)];
  }
  let [best, most] = [-1, 0];
  for (let slice = 0; slice < slices; slice++) {
    const there = mask.subarray(slice * rows * columns, (slice + 1) * rows * columns).filter(Boolean).length;
    if (there > most) {
      [best, most] = [slice, there];
    }
  }
  return [best < 0 ? slices >> 1 : best, rows >> 1, columns >> 1];
}
