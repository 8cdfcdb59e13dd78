// The WebSocket library ws and nothing else: a set of sockets per channel. ws.js PORT [deflate]
'use strict';

const http = require('http');
const { WebSocketServer } = require('ws');
const { publisher, listen, deflate } = require('./publish.js');

const channels = new Map();
const server = http.createServer(publisher((channel, body) => {
  const text = body.toString();
  for (const socket of channels.get(channel) ?? []) socket.send(text);
}));
const sockets = new WebSocketServer({ server, perMessageDeflate: deflate && { threshold: 0 } });
sockets.on('connection', (socket, request) => {
  const channel = new URL(request.url, 'http://x').searchParams.get('channel');
  if (!channels.has(channel)) channels.set(channel, new Set());
  channels.get(channel).add(socket);
  socket.on('close', () => channels.get(channel).delete(socket));
  socket.on('error', () => {});
});
listen(server);
