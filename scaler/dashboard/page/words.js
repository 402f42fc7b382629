// Numbers as people read them. null is said as a dash: what is not known is not zero.
export const DASH = "–";

export function number(value, digits = 3) {
  if (value === null || value === undefined) return DASH;
  if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(1);
  return Number(value.toPrecision(digits)).toLocaleString("en", { maximumFractionDigits: 3 });
}

export const ms = (seconds) => (seconds === null || seconds === undefined ? DASH : `${number(seconds * 1e3)} ms`);
export const watts = (value) => (value === null || value === undefined ? DASH : `${number(value)} W`);
export const percent = (share) => (share === null || share === undefined ? DASH : `${number(share * 100, 2)} %`);

export function joules(value) {
  if (value === null || value === undefined) return DASH;
  const [unit, size] = Math.abs(value) >= 1e6 ? ["MJ", 1e6] : Math.abs(value) >= 1e3 ? ["kJ", 1e3]
    : Math.abs(value) >= 1 || value === 0 ? ["J", 1] : ["mJ", 1e-3];
  return `${number(value / size)} ${unit}`;
}

export const clock = (unix_s) => new Date(unix_s * 1e3).toLocaleTimeString([], { hour12: false });
export const counted = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

export function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
