// What the scripts of views apart use of the page's: the names that they import, put here by the
// build (bundle.mjs).
export {};
