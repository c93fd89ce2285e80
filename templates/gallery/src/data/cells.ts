// Which map: its name in links and in the page's elements.

/**
 * An image's index, the place of a run, that of a class among the image's explained ones, a method
 * and a layer. A run below zero stands for what that run has more than the first one.
 */
export interface CellId {
  image: number;
  run: number;
  rank: number;
  method: string;
  layer: string;
}

/** An image of a run; the first run goes without saying. */
const imageText = ({ image, run }: CellId) => (run ? `${image}@${run}` : `${image}`);

export const idText = (id: CellId) => `${imageText(id)}.${id.rank}.${id.method}.${id.layer}`;

export function idOf(text: string): CellId {
  const [place, rank, method, ...layer] = text.split(".");
  const [image, run = 0] = place.split("@").map(Number);
  return { image, run, rank: Number(rank), method, layer: layer.join(".") };
}
