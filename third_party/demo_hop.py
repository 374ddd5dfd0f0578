#!/usr/bin/python3
"""The next hop of the demonstration: takes every message on 127.0.0.1:PORT and keeps it as a
file in FOLDER. Not a mail server: it speaks just enough SMTP for one polite client."""
import asyncio
import os
import sys
import time


async def serve(reader, writer, folder):
    def say(text):
        writer.write((text + "\r\n").encode())
    say("220 hop.demo.test ESMTP")
    sender, recipients = "", []
    while line := await reader.readline():
        text = line.decode("utf-8", "replace").strip()
        verb = text.split(" ")[0].upper()
        if verb == "EHLO":
            say("250-hop.demo.test")
            say("250-PIPELINING")
            say("250-SMTPUTF8")
            say("250 8BITMIME")
        elif verb == "MAIL":
            sender, recipients = text[10:], []
            say("250 2.1.0 OK")
        elif verb == "RCPT":
            recipients.append(text[8:])
            say("250 2.1.5 OK")
        elif verb == "DATA":
            say("354 go on")
            await writer.drain()
            data = await reader.readuntil(b"\r\n.\r\n")
            name = os.path.join(folder, f"{time.time_ns()}.eml")
            with open(name, "wb") as file:
                file.write(f"X-From: {sender}\r\nX-To: {', '.join(recipients)}\r\n".encode())
                file.write(data[:-3])
            print(f"demo next hop: {name}", flush=True)
            say("250 2.0.0 kept")
        elif verb == "QUIT":
            say("221 2.0.0 bye")
            break
        else:
            say("250 2.0.0 OK")
        await writer.drain()
    writer.close()


async def main():
    port, folder = int(sys.argv[1]), sys.argv[2]
    os.makedirs(folder, exist_ok=True)
    server = await asyncio.start_server(lambda r, w: serve(r, w, folder), "127.0.0.1", port,
                                        limit=256 << 20)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
