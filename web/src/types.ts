/** What the server says, as its JSON has it. Voxels are (slice, row, column), whole numbers. */

export type Voxel = [slice: number, row: number, column: number];

export type PromptKind = "none" | "point" | "box" | "mask";

export interface Region {
  name: string;
  label: string;
  /** Value of the region's outermost compartment in the mask. */
  code: number;
  /** Values of the mask that the region contains. */
  codes: number[];
  colour: string;
}

export interface Model {
  name: string;
  regions: Region[];
  /** Kinds of prompts that the model was trained with. */
  prompts: PromptKind[];
  warning: string | null;
}

export interface ListedCase {
  id: string;
  state: "new" | "edited" | "saved" | "unusable";
  message: string | null;
}

export interface ServerState {
  model: Model;
  cases: ListedCase[];
  output: string;
  version: string;
}

/** Slice, row, column and 1 for a positive, 0 for a negative click. */
export type Point = [slice: number, row: number, column: number, label: number];
/** First and last voxel, both inside the box. */
export type Box = [slice0: number, row0: number, column0: number, slice1: number, row1: number, column1: number];

/** What an edit changes. */
export interface Edit {
  version: number;
  prompts: { points: Point[]; boxes: Box[] };
  /** Millilitres by the region's name. */
  volumes: Record<string, number>;
  undo: boolean;
  redo: boolean;
  state: ListedCase["state"];
  iou?: Record<string, number> | null;
  embedded: number;
  message: string | null;
}

/** An answer to an edit: its fields, and the slices of the mask that are no longer what they were. */
export interface EditAnswer {
  edit: Edit;
  slices: Map<number, Uint8Array>;
}

export interface Description extends Edit {
  id: string;
  shape: [slices: number, rows: number, columns: number];
  /** Millimetres along (slice, row, column). */
  spacing: [number, number, number];
  modalities: string[];
  missing: string[];
  doubts: string[];
  /** Lowest and highest intensity to show, by modality. */
  window: Record<string, [number, number]>;
}

export interface Progress {
  embedded: number;
  slices: number;
  job: { name: string; done: number; total: number } | null;
  version: number;
}

export type Action = "click" | "box" | "erase" | "clear" | "propagate" | "automatic" | "undo" | "redo";
