import AfmqGeneration
import Testing

@Suite struct RunArgumentsTests {
    @Test func defaults() throws {
        let arguments = try RunArguments(["m.mlpackage", "--prompt", "Hello"])
        #expect(arguments.package == "m.mlpackage")
        #expect(arguments.prompt == "Hello")
        #expect(arguments.adapter == nil && arguments.tokenizer == nil)
        #expect(arguments.prefill && !arguments.chat && !arguments.listAdapters)
        #expect(arguments.options == GenerationOptions(maxTokens: 128, temperature: 0, seed: 0))
    }

    @Test func everyFlag() throws {
        let arguments = try RunArguments([
            "--prompt=--a=b", "--adapter", "fr", "--tokens=5", "m", "--temperature", "0.5",
            "--seed", "9", "--tokenizer", "t", "--no-prefill", "--chat",
        ])
        #expect(arguments.package == "m" && arguments.prompt == "--a=b")
        #expect(arguments.adapter == "fr" && arguments.tokenizer == "t")
        #expect(!arguments.prefill && arguments.chat)
        #expect(arguments.options == GenerationOptions(maxTokens: 5, temperature: 0.5, seed: 9))
    }

    @Test func withoutPrompt() throws {
        #expect(try RunArguments(["m", "--list-adapters"]).listAdapters)
        #expect(try RunArguments(["--help"]).help)
    }

    @Test(arguments: [
        ([], "PACKAGE is missing"),
        (["m"], "--prompt is missing"),
        (["m", "--prompt="], "--prompt is missing"),
        (["m", "n", "--prompt", "p"], "more than one PACKAGE"),
        (["m", "--prompt"], "--prompt needs a value"),
        (["m", "--prompt", "p", "--speed", "1"], "unknown flag --speed"),
        (["m", "--prompt", "p", "--tokens", "0"], "--tokens cannot be 0"),
        (["m", "--prompt", "p", "--tokens", "x"], "--tokens cannot be x"),
        (["m", "--prompt", "p", "--temperature", "-1"], "--temperature cannot be -1"),
        (["m", "--prompt", "p", "--temperature", "nan"], "--temperature cannot be nan"),
        (["m", "--prompt", "p", "--seed=-1"], "--seed cannot be -1"),
        (["m", "--prompt", "p", "--chat=yes"], "--chat takes no value"),
    ])
    func wrongCommandLines(arguments: [String], message: String) {
        #expect {
            try RunArguments(arguments)
        } throws: { error in
            (error as? UsageError)?.description == message
        }
    }

    @Test func theUsageNamesEveryFlagInEightyColumns() {
        for line in RunArguments.usage.split(separator: "\n") { #expect(line.count <= 80) }
        for flag in ["prompt", "chat", "adapter", "tokens", "temperature", "seed", "tokenizer"] {
            #expect(RunArguments.usage.contains("--\(flag) "))
        }
    }
}
