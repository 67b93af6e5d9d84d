// A folder with a Core ML package and a tokenizer, on the stand-ins of Tests/Stubs.
#if os(Linux)
    import AfmqGeneration
    import AfmqRuntime
    import CoreML
    import Foundation
    import Testing

    /// Tokens are bytes, so the text is ASCII.
    private let vocabulary = 128

    /// The text that the program of the stand-in gives after another, up to a stop token.
    private func continuation(
        _ text: String, shift: Int, count: Int, stopTokens: Set<UInt8>
    ) -> String {
        var bytes = Array(text.utf8)
        for _ in 0..<count {
            let sum = bytes.enumerated().reduce(shift) {
                $0 + ($1.offset + 1) * (Int($1.element) + 1)
            }
            let next = UInt8(sum % vocabulary)
            if stopTokens.contains(next) { break }
            bytes.append(next)
        }
        return String(decoding: bytes.dropFirst(text.utf8.count), as: UTF8.self)
    }

    @Suite struct TextModelTests {
        private func open() async throws -> TextModel {
            let folder = FileManager.default.temporaryDirectory
                .appending(path: UUID().uuidString)
            let program = Program(
                functions: [
                    "decode": .init(tokens: 1, shift: 0),
                    "prefill": .init(tokens: 8, shift: 0),
                    "decode_fr_CA": .init(tokens: 1, shift: 50),
                    "prefill_fr_CA": .init(tokens: 8, shift: 50),
                ], context: 256, vocabulary: vocabulary)
            func write(_ data: Data, to path: String) throws {
                let file = folder.appending(path: path)
                try FileManager.default.createDirectory(
                    at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
                try data.write(to: file)
            }
            try write(JSONEncoder().encode(program), to: "m.mlmodelc/stub.json")
            try write(Data("{}".utf8), to: "tokenizer/tokenizer.json")
            try write(Data(#"{"eos_token_id": [7, 8]}"#.utf8), to: "tokenizer/config.json")
            return try await TextModel(ModelFolder(folder))
        }

        @Test func answers() async throws {
            let model = try await open()
            #expect(model.adapters == ["fr_CA"] && model.hasChatTemplate)
            var stopped = 0
            for number in 0..<40 {
                let prompt = "The answer to question \(number) is"
                for (adapter, shift) in [(nil, 0), ("fr-CA", 50)] {
                    for chat in [false, true] {
                        var answer = ""
                        for try await piece in try model.answer(
                            to: prompt, adapter: adapter, chat: chat,
                            options: GenerationOptions(maxTokens: 20))
                        {
                            answer += piece
                        }
                        let text = chat ? "<user>" + prompt : prompt
                        // 0 is the tokenizer's end of text, 7 and 8 are those of config.json.
                        let expected = continuation(
                            text, shift: shift, count: 20, stopTokens: [0, 7, 8])
                        #expect(answer == expected)
                        if answer.utf8.count < 20 { stopped += 1 }
                    }
                }
            }
            #expect(stopped > 10 && stopped < 150)
        }

        @Test func errorsEndTheAnswer() async throws {
            let model = try await open()
            await #expect(throws: ModelError.unknownAdapter("de", known: ["fr_CA"])) {
                for try await _ in try model.answer(to: "Hello", adapter: "de") {}
            }
            await #expect(throws: ModelError.tooLong(tokens: 300, context: 256)) {
                for try await _ in try model.answer(to: String(repeating: "x", count: 300)) {}
            }
        }
    }
#endif
