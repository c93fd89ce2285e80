// One map as a picture in a file.
import { data } from "../app";
import type { CellId } from "../data/cells";
import type { ImageRecord } from "../data/dataset";
import { composite } from "../maps/composite";
import { longSide } from "../maps/look";
import { h } from "../parts/dom";

/** How long a file's address stays valid, in milliseconds. */
const HANDED_OVER = 1000;

/** Hand a map over as a file. */
export function save(id: CellId, image: ImageRecord) {
  const name = fileName(id, image);
  const picture = data.camOf(image, id)?.picture;
  if (picture) return download(picture, `${name}.jpg`);
  composite(image, id, longSide(image)).toBlob((blob) => {
    if (!blob) return;
    const address = URL.createObjectURL(blob);
    download(address, `${name}.png`);
    setTimeout(() => URL.revokeObjectURL(address), HANDED_OVER);
  });
}

const download = (address: string, name: string) =>
  h("a", { href: address, download: name }).click();

/** Name of a map's file, without its ending. */
function fileName(id: CellId, image: ImageRecord) {
  const named = [`class${image.targets[id.rank]}`, plain(data.classOf(image, id.rank))];
  const { classSpecific } = data.methodOf(id.method);
  const classes = classSpecific ? named.filter(Boolean).join("-") : "any-class";
  const file = plain(image.file.replace(/\.[^.]*$/, "")) || `image${image.index + 1}`;
  return [file, classes, id.method, plain(id.layer)].join("_");
}

/** Short ASCII of a name, for a file. */
const plain = (text: string) =>
  text
    .normalize("NFKD")
    .replace(/[^A-Za-z0-9.]+/g, "-")
    .replace(/^[-.]+|[-.]+$/g, "")
    .slice(0, 40);
