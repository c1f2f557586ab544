/** Keys: which command each belongs to, and which presses are the browser's own. */

export interface Command {
  id: string;
  group: string;
  says: string;
  /** The key names; see `nameOf`. */
  keys: string[];
  run(): void;
  /** Why it cannot be done now, or null if it can. */
  reason?(): string | null;
}

/** The name of a key with its modifiers, such as "P", "Shift+1", "Ctrl+Z", "?", "PageUp". */
export function nameOf(event: KeyboardEvent): string {
  const digit = /^Digit(\d)$/.exec(event.code)?.[1];
  const typed = digit && /^[^?/\\]$/.test(event.key) ? digit : event.key;
  const name = typed === " " ? "Space" : typed.length === 1 ? typed.toUpperCase() : typed;
  const alternative = event.getModifierState("AltGraph");
  const control = (event.ctrlKey || event.metaKey) && !alternative ? "Ctrl+" : "";
  const shift = event.shiftKey && (digit === name || name.length > 1 || /[A-Z]/.test(name)) ? "Shift+" : "";
  return control + shift + name;
}

const SLIDER = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End"];
const BUTTON = ["Enter", "Space"];

/** Whether the element that has the focus takes this key itself. */
export function isNative(name: string, target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) {
    return false;
  }
  const key = name.replace("Shift+", "");
  if (target instanceof HTMLInputElement) {
    return target.type === "range" ? SLIDER.includes(key) : key === "Space";
  }
  return (target instanceof HTMLButtonElement || target instanceof HTMLAnchorElement) && BUTTON.includes(key);
}

/** Runs the command whose key is pressed. */
export function listenToKeys(commands: Command[], blocked: () => boolean, run: (command: Command) => void): void {
  const byKey = new Map(commands.flatMap((command) => command.keys.map((key) => [key, command] as const)));
  window.addEventListener("keydown", (event) => {
    const name = nameOf(event);
    const command = byKey.get(name);
    if (!command || event.altKey !== event.getModifierState("AltGraph") || blocked() || isNative(name, event.target)) {
      return;
    }
    event.preventDefault();
    run(command);
  });
}

/** How a person reads a key's name. */
export function readable(key: string): string {
  return key.replace("Arrow", "").replace("PageUp", "Page up").replace("PageDown", "Page down").replaceAll("+", " + ");
}
