// SPDX-License-Identifier: MIT
//
// sdk.js - events of the outbox, through a real broker, read by the published CloudEvents SDK.
//
//   usage: NODE_PATH=.../node_modules node sdk.js FOLDER OUTBOX
//
// The command puts events and forwards them in each mode to a mosquitto on a free port; mqtt.js
// receives them, and the SDK makes events of them. Each attribute and each byte of data must be what
// was put, and no attribute may be there that was not.
'use strict';
const assert = require('node:assert/strict');
const { spawn, execFileSync } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const mqtt = require('mqtt');
const { MQTT, CloudEvent } = require('cloudevents');

const [folder, outbox] = process.argv.slice(2);
const controls = String.fromCharCode(...Array.from({ length: 32 }, (_, i) => i));
const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));

// What is put: the words of the command, and the payload. `own`: attributes that only these have.
const events = [
  {
    topic: 'json', data: '{"c": 21.50, "n": [1e3, -0, 9007199254740993], "s": "\\u0041\\n\\ud83d\\ude00"}',
    options: ['-c', 'application/json'], own: { datacontenttype: 'application/json' },
  },
  { topic: 'string', data: '"{\\"not\\": \\"parsed again\\"}"', options: ['-c', 'application/json'],
    own: { datacontenttype: 'application/json' } },
  { topic: 'null', data: 'null', options: ['-c', 'application/json'],
    own: { datacontenttype: 'application/json' } },
  { topic: 'suffix', data: '{"a":1}', options: ['-c', 'application/vnd.plant+json; charset=utf-8'],
    own: { datacontenttype: 'application/vnd.plant+json; charset=utf-8' } },
  { topic: 'text', data: `${controls}"\\/\u007f\u0085\u2028\u2029\ufffe\u{10ffff} ä€😀`,
    options: ['-c', 'text/plain'], own: { datacontenttype: 'text/plain' } },
  { topic: 'bytes', data: bytes, options: ['-c', 'application/octet-stream'],
    own: { datacontenttype: 'application/octet-stream' } },
  { topic: 'untyped', data: bytes.subarray(128), options: [], own: {} },
  { topic: 'empty', data: '', options: ['-c', 'text/plain'], own: { datacontenttype: 'text/plain' } },
  {
    topic: 'all', data: '7', options: ['-c', 'application/json', '-t', 'com.example.reading',
      '-k', 'sensor "7" \\ ä', '--ttl', '3600', '--correlation-id', 'order %20 9', '--causation-id', '1',
      '--traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      '-H', 'tracestate=a=1,b=2', '-H', 'subject=hall/3 \u2028 "x"', '-H', 'dataschema=urn:example:reading',
      '-H', 'site7=😀'],
    own: {
      datacontenttype: 'application/json', type: 'com.example.reading', partitionkey: 'sensor "7" \\ ä',
      correlationid: 'order %20 9', causationid: '1',
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      tracestate: 'a=1,b=2', subject: 'hall/3 \u2028 "x"', dataschema: 'urn:example:reading',
      site7: '😀', expirytime: 'a time',
    },
  },
  {
    topic: 'event', data: '{"specversion":"1.0","id":"x","source":"y","type":"z"}', alwaysStructured: true,
    options: ['-c', 'application/cloudevents+json'],
    own: { datacontenttype: 'application/cloudevents+json' },
  },
];

const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

// ---- A broker ------------------------------------------------------------------------------------

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function startBroker(port) {
  const file = path.join(folder, 'mosquitto.conf');
  fs.writeFileSync(file, `listener ${port} 127.0.0.1\nallow_anonymous true\n`);
  const broker = spawn('mosquitto', ['-c', file], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  await new Promise((resolve, reject) => {
    broker.once('exit', () => reject(new Error(`mosquitto ended: ${said}`)));
    broker.stderr.on('data', (text) => {
      said += text;
      if (/mosquitto version .* running/.test(said)) resolve();
    });
  });
  return broker;
}

// ---- Sending and receiving -----------------------------------------------------------------------

// Gives the packets of one run, in the order of arrival.
async function send(port, mode, options) {
  const database = path.join(folder, `${mode}${options.length}.db`);
  execFileSync(outbox, ['init', database, '--device', 'pump-7'], { stdio: 'ignore' });
  for (const event of events)
    execFileSync(outbox, ['put', database, `${mode}/${event.topic}`, '-', ...event.options],
      { input: event.data, stdio: ['pipe', 'ignore', 'inherit'] });
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, { protocolVersion: 5 });
  const packets = [];
  const all = new Promise((resolve) => {
    client.on('message', (topic, payload, packet) => {
      packets.push(packet);
      if (packets.length === events.length) resolve();
    });
  });
  await client.subscribeAsync(`${mode}/#`, { qos: 1 });
  execFileSync(outbox, ['forward', database, '-b', `mqtt://127.0.0.1:${port}`, '--mode', mode, '--drain',
    '--timeout', '30', '-q', ...options], { stdio: ['ignore', 'inherit', 'inherit'] });
  await all;
  await client.endAsync();
  return packets;
}

// As a program would do it. The SDK takes datacontenttype from the user properties alone, where the
// binding does not put it.
function toEvent(packet, prefix) {
  const contentType = packet.properties.contentType;
  const headers = {};
  for (const [name, value] of Object.entries(packet.properties.userProperties ?? {})) {
    assert.equal(typeof value, 'string', `${name} is there twice`);
    assert.ok(name.startsWith(prefix), `${name} has the prefix`);
    headers[name.slice(prefix.length)] = value;
  }
  const isDocument = contentType?.startsWith('application/cloudevents') ?? false;
  if (!isDocument && contentType !== undefined) headers.datacontenttype = contentType;
  const message = {
    PUBLISH: { 'Content Type': contentType }, headers, 'User Properties': headers,
    body: isDocument ? packet.payload.toString('utf8') : packet.payload, payload: packet.payload,
  };
  assert.ok(MQTT.isEvent(message), 'the SDK takes it for an event');
  const event = MQTT.toEvent(message, true);
  assert.ok(event instanceof CloudEvent);
  assert.ok(event.validate());
  return { event, isDocument };
}

// ---- Comparing -----------------------------------------------------------------------------------

// Those that are set; the SDK has members for all that it knows.
function attributesOf(event) {
  return Object.fromEntries(Object.entries(event.toJSON()).filter(([name, value]) =>
    value !== undefined && name !== 'data' && name !== 'data_base64'));
}

function checkAttributes(event, put, index, source) {
  const sequence = (number) => String(number).padStart(19, '0');
  const expected = {
    specversion: '1.0', type: 'outbox.event', source, id: String(index + 1),
    sequence: sequence(index + 1), previous: sequence(index), ...put.own,
  };
  const found = attributesOf(event);
  for (const name of ['time', 'recordedtime', ...(put.own.expirytime ? ['expirytime'] : [])]) {
    assert.match(found[name], time);
    expected[name] = found[name];
  }
  assert.deepEqual(found, expected);
  assert.equal(found.recordedtime, found.time);
  if (put.own.expirytime) assert.equal(Date.parse(found.expirytime) - Date.parse(found.time), 3600000);
}

function checkDocument(event, packet, put) {
  const type = put.own.datacontenttype ?? '';
  assert.equal(packet.properties.contentType, 'application/cloudevents+json; charset=utf-8');
  assert.equal(packet.properties.payloadFormatIndicator, true);
  if (/[/+]json/.test(type)) {
    assert.deepEqual(event.data, JSON.parse(put.data));
    assert.ok(packet.payload.toString().endsWith(`"data":${put.data}}`), 'digit for digit');
  } else if (type.startsWith('text/')) {
    assert.equal(event.data, put.data);
  } else {
    assert.equal(event.data_base64, Buffer.from(put.data).toString('base64'));
    assert.deepEqual(Buffer.from(event.data.buffer ?? event.data).subarray(-put.data.length), put.data);
  }
}

function checkBinary(event, packet, put) {
  assert.deepEqual(packet.payload, Buffer.from(put.data));
  assert.equal(packet.properties.contentType, put.own.datacontenttype);
  const isText = /json|text/.test(put.own.datacontenttype ?? '');
  assert.equal(packet.properties.payloadFormatIndicator ?? false, isText);
}

async function check(port, mode, prefix) {
  const packets = await send(port, mode, prefix ? ['--ce-prefix'] : []);
  let source;
  packets.forEach((packet, index) => {
    const put = events[index];
    try {
      assert.equal(packet.topic, `${mode}/${put.topic}`);
      const { event, isDocument } = toEvent(packet, prefix);
      source ??= event.source;
      assert.match(source, /^outbox:\/\/pump-7\/normal\/[0-9a-f]{16}$/);
      assert.equal(isDocument, mode === 'structured' || put.alwaysStructured === true);
      checkAttributes(event, put, index, source);
      if (isDocument) checkDocument(event, packet, put);
      else checkBinary(event, packet, put);
    } catch (error) {
      error.message = `${mode} ${prefix} '${put.topic}': ${error.message}`;
      throw error;
    }
  });
  console.log(`${packets.length} events in ${mode} mode${prefix && ` with names ${prefix}...`}`);
}

async function main() {
  const port = await freePort();
  const broker = await startBroker(port);
  try {
    await check(port, 'structured', '');
    await check(port, 'binary', '');
    await check(port, 'binary', 'ce-');
  } finally {
    broker.kill('SIGTERM');
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
