// Numbers, times and sizes for people.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-CA", { year: "numeric", month: "2-digit", day: "2-digit", timeZone: "UTC" });

export const NONE = "–";

export const count = (n) => (n === null || n === undefined ? NONE : whole.format(n));

export function bytes(n) {
  if (n === null || n === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; n >= 1024 && at < units.length - 1; at += 1) n /= 1024;
  return `${at === 0 ? whole.format(n) : short.format(n)} ${units[at]}`;
}

export const rate = (n) => (n === null || n === undefined ? NONE : `${bytes(n)}/s`);

export function micros(n) {
  if (n === null || n === undefined) return NONE;
  return n < 1000 ? `${whole.format(n)} µs` : `${short.format(n / 1000)} ms`;
}

// The two largest units: 3 d 4 h, 5 min 12 s.
export function duration(seconds) {
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = parts.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0 s";
  const [unit, size] = parts[first];
  const text = `${whole.format(Math.floor(seconds / size))} ${unit}`;
  const next = parts[first + 1];
  const rest = next ? Math.floor((seconds % size) / next[1]) : 0;
  return rest > 0 ? `${text} ${rest} ${next[0]}` : text;
}

export const ago = (seconds) => (seconds === null || seconds === undefined ? NONE : seconds < 2 ? "now" : `${duration(seconds)} ago`);

export const time = (date) => clock.format(date);

export const date = (unixSeconds) => day.format(new Date(unixSeconds * 1000));

export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;
