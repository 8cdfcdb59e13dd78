export { Parley, ParleyError } from './parley.js';
export { ERRORS, actionOf } from './codes.js';
