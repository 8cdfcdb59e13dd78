import type { Codec } from './index.js';

/** MessagePack for `new Parley({ codec: msgpack, … })`; needs the package `@msgpack/msgpack`. */
export const msgpack: Codec;
