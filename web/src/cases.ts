/** The list of cases. */

import { element, make, setText } from "./dom";
import type { Session } from "./session";
import type { ListedCase } from "./types";

const STATES: Record<ListedCase["state"], string> = {
  new: "not edited",
  edited: "edited",
  saved: "saved",
  unusable: "cannot be opened",
};

export class CaseList {
  private readonly list = element("cases");
  private shown = "";

  constructor(private readonly session: Session) {}

  update(): void {
    const server = this.session.server;
    if (!server) {
      return;
    }
    setText(element("output"), `Saved into ${server.output}`);
    const open = this.session.description?.id;
    const now = JSON.stringify([server.cases, open]);
    if (now === this.shown) {
      return;
    }
    this.shown = now;
    const focused = (document.activeElement as HTMLElement | null)?.dataset["case"];
    this.list.replaceChildren(...server.cases.map((one) => this.entry(one, one.id === open)));
    if (focused !== undefined) {
      this.list.querySelector<HTMLElement>(`[data-case="${CSS.escape(focused)}"]`)?.focus();
    }
    this.list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  /** Opens the case that is `step` usable cases after the open one. */
  next(step: 1 | -1): void {
    const usable = (this.session.server?.cases ?? []).filter((one) => one.state !== "unusable");
    const place = usable.findIndex((one) => one.id === this.session.description?.id);
    const next = usable[place + step];
    if (next) {
      void this.session.open(next.id);
    } else {
      this.session.say(step > 0 ? "this is the last case" : "this is the first case", "info");
    }
  }

  private entry(one: ListedCase, open: boolean): HTMLElement {
    const usable = one.state !== "unusable";
    const button = make("button", { title: one.id }, one.id);
    button.append(make("small", {}, usable ? STATES[one.state] : (one.message ?? STATES.unusable)));
    button.dataset["case"] = one.id;
    if (open) {
      button.setAttribute("aria-current", "true");
    }
    if (usable) {
      button.addEventListener("click", () => void this.session.open(one.id));
    } else {
      button.setAttribute("aria-disabled", "true");
      button.title = one.message ?? STATES.unusable;
    }
    return make("li", { className: one.state }, button);
  }
}
