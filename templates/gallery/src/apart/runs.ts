export { comparisonView as default } from "../views/runs/comparison";
