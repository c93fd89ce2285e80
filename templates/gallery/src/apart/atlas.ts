export { atlasView as default } from "../views/atlas/atlas";
