/** The server's routes. */

import type { Action, Description, Edit, EditAnswer, ServerState } from "./types";

/** The server answered that it did not do what was asked. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    detail: string,
  ) {
    super(detail);
  }
}

/** The server did not answer: it is gone, or the network between. */
export class Gone extends Error {}

export class Api {
  async state(): Promise<ServerState> {
    return (await this.ask("/api/state")).json();
  }

  async open(id: string): Promise<Description> {
    return (await this.post(id, "open", {})).json();
  }

  /** The modality's NIfTI file, unpacked. */
  async image(id: string, modality: string): Promise<ArrayBuffer> {
    return this.bytes(await this.ask(`${caseAddress(id)}/images/${encodeURIComponent(modality)}.nii`));
  }

  /** The mask, (slice, row, column) in C order, and the version it shows. */
  async mask(id: string): Promise<{ version: number; voxels: Uint8Array }> {
    const response = await this.ask(`${caseAddress(id)}/mask.nii`);
    const file = await this.bytes(response);
    return { version: Number(response.headers.get("X-Version")), voxels: niftiVoxels(file) };
  }

  async show(id: string, slice: number): Promise<void> {
    await this.post(id, "show", { slice });
  }

  /** Does `action` to the case as the page shows it, which is `version`. */
  async edit(id: string, action: Action, body: object, version: number, sliceSize: number): Promise<EditAnswer> {
    return editAnswer(await this.bytes(await this.post(id, action, { ...body, version })), sliceSize);
  }

  async cancel(id: string): Promise<void> {
    await this.post(id, "cancel", {});
  }

  async save(id: string): Promise<{ path: string; state: "saved" }> {
    return (await this.post(id, "save", {})).json();
  }

  events(id: string): EventSource {
    return new EventSource(`${caseAddress(id)}/events`);
  }

  /** Whether samjax answers at this address. */
  async alive(): Promise<boolean> {
    try {
      const response = await fetch("/healthz", { signal: AbortSignal.timeout(3000), cache: "no-store" });
      return response.ok && (await response.json()).service === "samjax";
    } catch {
      return false;
    }
  }

  private post(id: string, action: string, body: object): Promise<Response> {
    return this.ask(`${caseAddress(id)}/${action}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  }

  private async ask(address: string, request: RequestInit = {}): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(address, { cache: "no-store", ...request });
    } catch (error) {
      throw new Gone(String(error));
    }
    if (!response.ok) {
      throw new Refused(response.status, await detail(response));
    }
    return response;
  }

  /** The body; a connection that breaks in the middle of it is a server that is gone. */
  private async bytes(response: Response): Promise<ArrayBuffer> {
    try {
      return await response.arrayBuffer();
    } catch (error) {
      throw new Gone(String(error));
    }
  }
}

function caseAddress(id: string): string {
  return `/api/cases/${encodeURIComponent(id)}`;
}

async function detail(response: Response): Promise<string> {
  try {
    const body = await response.json();
    return typeof body.detail === "string" ? body.detail : JSON.stringify(body);
  } catch {
    return `the server answered ${response.status} ${response.statusText}`;
  }
}

/** The voxels of a NIfTI-1 file of uint8. */
export function niftiVoxels(file: ArrayBuffer): Uint8Array {
  const header = new DataView(file);
  const little = header.getInt32(0, true) === 348;
  return new Uint8Array(file, header.getFloat32(108, little));
}

/** Takes an edit's answer apart: the length of its JSON, the JSON, and the slices that it names. */
export function editAnswer(body: ArrayBuffer, sliceSize: number): EditAnswer {
  const length = new DataView(body).getUint32(0, true);
  const { slices, ...edit } = JSON.parse(new TextDecoder().decode(new Uint8Array(body, 4, length))) as Edit & {
    slices: number[];
  };
  const changed = slices.map((slice, n): [number, Uint8Array] => [
    slice,
    new Uint8Array(body, 4 + length + n * sliceSize, sliceSize),
  ]);
  return { edit, slices: new Map(changed) };
}
