// Socket.IO with its defaults, WebSocket only: a room per channel. socketio.js PORT [deflate]
'use strict';

const http = require('http');
const { Server } = require('socket.io');
const { publisher, listen, deflate } = require('./publish.js');

const server = http.createServer(publisher((channel, body) => io.to(channel).emit('event', JSON.parse(body))));
const io = new Server(server, { transports: ['websocket'], perMessageDeflate: deflate && { threshold: 0 } });
io.on('connection', (socket) => socket.join(socket.handshake.query.channel));
listen(server);
