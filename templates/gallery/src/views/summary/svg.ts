// Small drawings: elements of SVG, as h() makes those of HTML.

/** Make an element of SVG; all properties are attributes. */
export function s(tag: string, attributes: Record<string, string | number>, ...children: Node[]) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}
