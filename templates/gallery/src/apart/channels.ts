export { channelsView as default } from "../views/channels";
