/** The overlay that lists all keys. */

import { element, make } from "./dom";
import { type Command, readable } from "./keys";

export function buildHelp(commands: Command[]): void {
  const groups = new Map<string, Command[]>();
  for (const command of commands) {
    groups.set(command.group, [...(groups.get(command.group) ?? []), command]);
  }
  element("help-close").addEventListener("click", () => element<HTMLDialogElement>("help").close());
  element("help-keys").replaceChildren(...[...groups].flatMap(([group, members]) => section(group, members)));
}

function section(group: string, members: Command[]): HTMLElement[] {
  const lines = members.map((command) => {
    const keys = command.keys.map((key) => make("kbd", {}, readable(key)));
    return make("div", {}, make("dt", {}, command.says), make("dd", {}, ...keys));
  });
  return [make("h3", {}, group), make("dl", {}, ...lines)];
}
