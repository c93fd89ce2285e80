// The views of a comparison: its first page, and what the runs say of each other.
import { state } from "../../app";
import { runsView } from "./runs";
import { runsSummary } from "./summary";

export const comparisonView = () => (state.view === "summary" ? runsSummary() : runsView());
