/** Small helpers for the document. Text from the server only ever becomes text. */

export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) {
    throw new Error(`the page has no element ${id}`);
  }
  return found as T;
}

/** A new element with properties and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Sets an element's text if it is another one, so that readers of the screen are not told twice. */
export function setText(target: HTMLElement, text: string): void {
  if (target.textContent !== text) {
    target.textContent = text;
  }
}

/** The name by which people know a modality. */
export function modalityName(modality: string): string {
  return { t1: "T1", t1gd: "T1-Gd", t2: "T2", flair: "FLAIR" }[modality] ?? modality;
}
