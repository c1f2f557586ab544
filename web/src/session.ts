/** The open case, its edits one after the other, and what to do when the server is gone. */

import { type Api, Gone, Refused } from "./api";
import { holds, pointOf, type Sent } from "./prompts";
import type { Action, Description, Edit, ListedCase, Point, Progress, ServerState } from "./types";

export type Note = { text: string; kind: "error" | "info" };

/** What the page does when something has happened. */
export interface Listener {
  /** Another case is open, or the same one has been read anew. */
  opened(description: Description, mask: Uint8Array): void;
  /** An edit has been answered, and these slices of the mask have changed. */
  patched(mask: Uint8Array, slices: number[], by: Sent): void;
  /** Anything else. */
  changed(): void;
}

const SOON = 30; // milliseconds
const AGAIN = 250; // milliseconds
const RETRY = 1000; // milliseconds between two looks for a server that is gone
const SILENCE = 25_000; // milliseconds without an event, of which there is one every 10 s
const LONG: Action[] = ["propagate", "automatic"];

export class Session {
  server: ServerState | null = null;
  description: Description | null = null;
  edit: Edit | null = null;
  mask: Uint8Array = new Uint8Array();
  connection: "connected" | "gone" | "denied" = "connected";
  progress: Progress | null = null;
  note: Note | null = null;
  /** The edit that the server works on. */
  running: Action | null = null;
  saving = false;

  private queue: Sent[] = [];
  private stopped: Sent | undefined;
  private source: EventSource | null = null;
  private watchdog = 0;
  private opening = 0;
  /** How many requests for another case are on their way. */
  private arriving = 0;

  constructor(
    private readonly api: Api,
    private readonly listener: Listener,
  ) {}

  /** Reads what cases there are and opens `wanted`, or the first that can be opened. */
  async start(wanted: string | null): Promise<void> {
    await this.attempt(() => this.begin(wanted));
  }

  async open(id: string): Promise<void> {
    if (this.queue.length) {
      this.say("one edit is still on its way: wait for it, or stop it (Escape)", "error");
    } else {
      this.arriving++;
      try {
        await this.attempt(async () => void (await this.tryToRead(id)));
      } finally {
        this.arriving--;
      }
    }
  }

  /** Puts an edit into the queue. */
  act(action: Action, body: object): void {
    if (!this.edit || this.connection !== "connected") {
      this.say("the server is gone: this edit was not made", "error");
    } else if (this.arriving) {
      this.say("a case is being opened: this edit was not made", "error"); // it would reach the one or the other
    } else if (this.running && LONG.includes(this.running)) {
      this.say(`${this.running} is running: wait for it, or stop it (Escape)`, "error");
    } else {
      this.queue.push({ action, body, asked: performance.now() });
      if (this.queue.length === 1) {
        this.note = null;
        void this.work();
      }
      this.listener.changed();
    }
  }

  /** The clicks that the server has not answered yet. */
  get waitingPoints(): Point[] {
    return this.queue.filter((one) => one.action === "click").map(({ body }) => pointOf(body));
  }

  /** Whether an action that can be stopped is running. */
  get stoppable(): boolean {
    return (this.running !== null && LONG.includes(this.running)) || Boolean(this.progress?.job);
  }

  /** Stops it; asks again until it has, because the server may not have begun when it was asked first. */
  async stop(): Promise<void> {
    const id = this.description?.id;
    const job = this.queue[0];
    if (!id || !this.stoppable) {
      return;
    }
    if (!job) {
      await this.attempt(() => this.api.cancel(id)); // it was begun in another window, or before the page was loaded
      return;
    }
    if (job === this.stopped) {
      return;
    }
    this.stopped = job;
    while (job === this.queue[0] && this.connection === "connected") {
      await this.attempt(() => this.api.cancel(id));
      await pause(AGAIN);
    }
  }

  async save(): Promise<void> {
    const id = this.description?.id;
    if (!id || this.saving) {
      return;
    }
    this.saving = true;
    this.listener.changed();
    while (this.queue.length && this.connection === "connected") {
      await pause(SOON); // the edits that were made before it belong into the file
    }
    await this.attempt(async () => {
      const { path, state } = await this.api.save(id);
      this.setState(id, state);
      this.say(`saved as ${path}`, "info");
    });
    this.saving = false;
    this.listener.changed();
  }

  /** Tells the server which slice is shown, so that it is encoded first. */
  async shown(slice: number): Promise<void> {
    const id = this.description?.id;
    if (id && this.connection === "connected") {
      await this.attempt(() => this.api.show(id, slice));
    }
  }

  say(text: string, kind: Note["kind"]): void {
    this.note = { text, kind };
    this.listener.changed();
  }

  private async begin(wanted: string | null): Promise<void> {
    this.server = await this.api.state();
    this.listener.changed();
    const ids = this.server.cases.filter((one) => one.state !== "unusable").map((one) => one.id);
    for (const id of wanted !== null && ids.includes(wanted) ? [wanted, ...ids] : ids) {
      if (await this.tryToRead(id)) {
        return;
      }
    }
    this.say("none of the cases can be opened; the list says why", "error");
  }

  /** Reads a case; one whose files cannot be used is marked in the list. Returns whether it is open. */
  private async tryToRead(id: string): Promise<boolean> {
    try {
      await this.read(id);
      return true;
    } catch (error) {
      if (!(error instanceof Refused) || error.status === 401) {
        throw error;
      }
      this.server = await this.api.state();
      this.say(error.message, "error");
      return false;
    }
  }

  private async read(id: string): Promise<void> {
    const turn = ++this.opening;
    let description = await this.api.open(id);
    let mask = await this.api.mask(id);
    while (mask.version > description.version) {
      description = await this.api.open(id); // edited in between
      mask = await this.api.mask(id);
    }
    const here = this.connection === "connected" && id === this.description?.id;
    if (turn !== this.opening || (here && description.version < this.edit!.version)) {
      return; // another case has been asked for since, or an edit of this one has been answered
    }
    this.description = description;
    this.mask = mask.voxels;
    this.progress = null;
    this.take(description);
    this.listener.opened(description, this.mask);
    this.listen(id);
  }

  private take(edit: Edit): void {
    this.edit = edit;
    if (this.description) {
      this.setState(this.description.id, edit.state);
    }
  }

  private setState(id: string, state: ListedCase["state"]): void {
    const listed = this.server?.cases.find((one) => one.id === id);
    if (listed) {
      listed.state = state;
    }
  }

  /** Sends the queue's edits one after the other. */
  private async work(): Promise<void> {
    while (this.queue.length && this.description && this.edit) {
      const sent = this.queue[0]!;
      const { action, body } = sent;
      const [, rows, columns] = this.description.shape;
      this.running = action;
      this.listener.changed();
      try {
        const answer = await this.api.edit(this.description.id, action, body, this.edit.version, rows * columns);
        for (const [slice, voxels] of answer.slices) {
          this.mask.set(voxels, slice * rows * columns);
        }
        this.queue.shift();
        this.take(answer.edit);
        if (answer.edit.message) {
          this.note = { text: answer.edit.message, kind: "info" };
        }
        this.listener.patched(this.mask, [...answer.slices.keys()], sent);
      } catch (error) {
        this.running = null;
        if (error instanceof Gone) {
          void this.lost(); // the edit stays in the queue until the server says whether it got it
          return;
        }
        const stale = error instanceof Refused && error.status === 409;
        this.queue = stale ? [] : this.queue.slice(1);
        await this.refused(error);
      }
      this.running = null;
      this.listener.changed();
    }
  }

  /** Runs `job`; says what the server refuses, and waits for a server that is gone. */
  async attempt(job: () => Promise<void>): Promise<void> {
    try {
      await job();
    } catch (error) {
      if (error instanceof Gone) {
        void this.lost();
      } else {
        await this.refused(error);
      }
    }
  }

  private async refused(error: unknown): Promise<void> {
    if (!(error instanceof Refused)) {
      console.error(error);
      this.say(`something unexpected happened, reload the page: ${String(error)}`, "error");
    } else if (error.status === 401) {
      this.connection = "denied";
      this.say("the token is missing or wrong: open the address with /?token= and the token of the command", "error");
    } else if (error.status === 409 && this.description) {
      await this.attempt(() => this.read(this.description!.id));
      this.say("the case was edited in another window: this is what it is now; the last edit was not made", "info");
    } else {
      this.say(error.message, "error");
    }
  }

  private listen(id: string): void {
    this.source?.close();
    const source = this.api.events(id);
    this.source = source;
    const alarm = () => {
      clearTimeout(this.watchdog);
      this.watchdog = window.setTimeout(() => source.onerror?.(new Event("error")), SILENCE);
    };
    alarm();
    source.onmessage = (event) => {
      alarm();
      this.progress = JSON.parse(event.data) as Progress;
      this.listener.changed();
      if (this.edit && !this.queue.length && this.progress.version > this.edit.version) {
        void this.attempt(() => this.read(id)); // another window edits the same case
      }
    };
    source.onerror = () => {
      source.close();
      clearTimeout(this.watchdog);
      if (source === this.source) {
        void this.check(id);
      }
    };
  }

  private async check(id: string): Promise<void> {
    if (!(await this.api.alive())) {
      void this.lost();
    } else {
      setTimeout(() => this.description?.id === id && this.connection === "connected" && this.listen(id), RETRY);
    }
  }

  /** Waits for the server and goes on where it was. */
  private async lost(): Promise<void> {
    if (this.connection === "gone") {
      return;
    }
    this.connection = "gone";
    this.source?.close();
    clearTimeout(this.watchdog);
    this.listener.changed();
    do {
      while (!(await this.api.alive())) {
        await pause(RETRY);
      }
    } while (!(await this.resumed()));
    if (this.connection === "gone") {
      this.connection = "connected";
    }
    this.listener.changed();
    if (this.queue.length) {
      void this.work();
    }
  }

  /** Whether the server stayed long enough to be asked what there is. */
  private async resumed(): Promise<boolean> {
    try {
      await this.resume();
    } catch (error) {
      if (error instanceof Gone) {
        return false;
      }
      await this.refused(error);
    }
    return true;
  }

  private async resume(): Promise<void> {
    const before = this.server?.version;
    this.server = await this.api.state();
    if (before !== undefined && before !== this.server.version) {
      location.reload(); // another samjax has another page
      return;
    }
    const id = this.description?.id;
    if (!id || !this.server.cases.some((one) => one.id === id)) {
      this.queue = [];
      await this.begin(id ?? null);
      return;
    }
    const sent = this.edit?.version ?? 0;
    await this.read(id);
    this.afterReturn(sent);
  }

  /** Drops the edit that was on its way if the server got it; `sent` is the version on which it was made. */
  private afterReturn(sent: number): void {
    const edit = this.edit!;
    const waiting = this.queue[0];
    if (waiting && edit.version === sent + 1 && holds(edit, waiting)) {
      this.queue.shift();
    } else if (waiting && edit.version !== sent) {
      this.queue = [];
      this.say("the case has changed while the server was gone: look whether the last edit is there", "error");
      return;
    }
    this.say("the server is back; every edit that it had answered is there", "info");
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
