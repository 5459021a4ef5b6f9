"""OpenVINO GenAI's continuous batching behind the least server that streams chat completions in OpenAI's shape.

    openvino_server.py MODEL.gguf PORT

One thread steps the pipeline and writes each step's tokens straight to their connections. Tokens are counted, not
turned into text: it is spared that work, which the other servers do.
"""

import http.server
import json
import sys
import threading

import openvino_genai

HELD_BACK = b'data: {"choices":[{"index":0,"delta":{"content":"token"}}]}\n\n'


class Engine:
    """The pipeline and the requests that it works on."""

    def __init__(self, path):
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = False
        scheduler.max_num_batched_tokens = 512
        scheduler.cache_size = 2
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(path, scheduler, "CPU")
        self.tokenizer = self.pipeline.get_tokenizer()
        self.changed = threading.Condition()
        self.running = {}
        self.next_id = 0
        threading.Thread(target=self.run, daemon=True).start()

    def ask(self, messages, max_tokens, on_tokens):
        """Starts an answer; `on_tokens(number)` is told of each step's tokens and of the end with None."""
        prompt = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        tokens = self.tokenizer.encode(prompt).input_ids
        options = openvino_genai.GenerationConfig(max_new_tokens=max_tokens, ignore_eos=True, do_sample=False)
        with self.changed:
            self.next_id += 1
            self.running[self.next_id] = (self.pipeline.add_request(self.next_id, tokens, options), on_tokens)
            self.changed.notify()
        return tokens.shape[1]

    def run(self):
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.running)
            self.pipeline.step()
            with self.changed:
                running = list(self.running.items())
            for number, (handle, on_tokens) in running:
                while handle.can_read():
                    for output in handle.read().values():
                        on_tokens(len(output.generated_ids))
                if handle.get_status() != openvino_genai.GenerationStatus.RUNNING:
                    on_tokens(None)
                    with self.changed:
                        del self.running[number]


class Handler(http.server.BaseHTTPRequestHandler):
    engine = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        count, ended = 0, threading.Event()

        def on_tokens(number):
            nonlocal count
            if number is None:
                ended.set()
            elif number:
                count += number
                self.wfile.write(HELD_BACK)

        prompt_tokens = self.engine.ask(asked["messages"], asked["max_tokens"], on_tokens)
        ended.wait()
        usage = {"prompt_tokens": int(prompt_tokens), "completion_tokens": count}
        self.wfile.write(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode())
        self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


if __name__ == "__main__":
    Handler.engine = Engine(sys.argv[1])
    Server(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
