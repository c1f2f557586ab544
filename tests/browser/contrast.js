/** The texts whose contrast with what is behind them is below 4.5 to 1, which is what WCAG asks for (level AA). */
() => {
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const linear = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = ([red, green, blue]) =>
    0.2126 * linear(red / 255) + 0.7152 * linear(green / 255) + 0.0722 * linear(blue / 255);

  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = channels(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.9) {
        return colour;
      }
    }
    return [0, 0, 0];
  };

  const contrast = (element) => {
    const one = luminance(channels(getComputedStyle(element).color));
    const other = luminance(behind(element));
    return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  };

  return [...document.querySelectorAll("body *")]
    .filter((element) => element.offsetParent && !element.closest("[aria-disabled=true]"))
    .filter((element) => [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()))
    .map((element) => [element.tagName, element.textContent.trim().slice(0, 30), contrast(element)])
    .filter(([, , ratio]) => ratio < 4.5);
}
