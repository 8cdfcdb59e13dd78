export { ERRORS, actionOf } from './codes.js';
export { ParleyError } from './dispatch.js';
export { Parley } from './parley.js';
