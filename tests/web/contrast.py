"""The contrast of every text on a page with what it stands on."""

# Every element with text of its own, its colour, and the backgrounds below it, the nearest first.
FIND = """(() => {
  const found = [];
  const parse = (text) => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const known = new Map();
  const colour = (text) => known.get(text) ?? (known.set(text, parse(text)), known.get(text));
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest('noscript, .unseen, .skip') || element.matches(':disabled')) continue;
    const style = getComputedStyle(element);
    const svg = element instanceof SVGElement;
    const backs = [];
    for (let at = element; at; at = at.parentElement) backs.push(colour(getComputedStyle(at).backgroundColor));
    if (svg && element.classList.contains('sessions')) {
      backs.unshift(colour(getComputedStyle(element.parentElement.querySelector('.dot')).fill));
    }
    found.push([element.textContent.trim().slice(0, 40), colour(svg ? style.fill : style.color), backs]);
  }
  return found;
})()"""


def over(colour, below):
    alpha = colour[3]
    return [c * alpha + b * (1 - alpha) for c, b in zip(colour[:3], below)]


def luminance(colour):
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(text, backs):
    back = [255, 255, 255]
    for layer in reversed(backs):
        back = over(layer, back)
    low, high = sorted((luminance(over(text, back)), luminance(back)))
    return (high + 0.05) / (low + 0.05)


def contrasts(page):
    """The lowest contrast on the page, and the text that has it."""
    return min((contrast(text, backs), words) for words, text, backs in page.run(FIND))
