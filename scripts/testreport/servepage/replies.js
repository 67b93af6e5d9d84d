{
  const html = `<img src=x onerror="document.title='run'"><script>document.title='run'<` + `/script>`;
  const token = (text, ...others) => ({ token: text, logprob: -1, top_logprobs: [text, ...others].map((token) => ({ token, logprob: -1 })) });
  const part = (content, ...tokens) => ({ choices: [{ index: 0, delta: { content }, logprobs: { content: tokens }, finish_reason: null }] });
  const parts = [
    part(html, token(html, "<b>bold</b>", " x", "\n", "\u200b")),
    part("é", token("bytes:\\xc3"), token("bytes:\\xa9")),
    part("\n", token("\n")),
    part("—"),
    { error: { message: "the server is shutting down" } },
  ];
  const body = new TextEncoder().encode(parts.map((p) => `data: ${JSON.stringify(p)}\n\n`).join(""));
  // One byte at a time: characters and events are divided in every place.
  window.fetch = async () => new Response(new ReadableStream({
    start(stream) {
      for (const b of body) stream.enqueue(new Uint8Array([b]));
      stream.close();
    },
  }));
}
