// Which map: its name in links and in the page's elements.

/** An image's index, the place of a class among its explained ones, a method and a layer. */
export interface CellId {
  image: number;
  rank: number;
  method: string;
  layer: string;
}

export const idText = (id: CellId) => `${id.image}.${id.rank}.${id.method}.${id.layer}`;

export function idOf(text: string): CellId {
  const [image, rank, method, ...layer] = text.split(".");
  return { image: Number(image), rank: Number(rank), method, layer: layer.join(".") };
}
