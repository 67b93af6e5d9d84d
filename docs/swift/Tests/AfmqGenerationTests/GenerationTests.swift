import AfmqGeneration
import Foundation
import Testing

/// Counts up: the token after t is t + 1, or t + 2 with the adapter "double".
private actor Counter: LanguageModel {
    nonisolated let adapters = ["double"]
    nonisolated let contextLength = 10
    private(set) var appended: [Int32] = []
    private(set) var capacity = 0
    private var step: Int32 = 1
    private var text = Text.none

    func begin(adapter: String?, capacity: Int) throws -> Text {
        if let adapter, !adapters.contains(adapter) {
            throw ModelError.unknownAdapter(adapter, known: adapters)
        }
        appended = []
        self.capacity = capacity
        step = adapter == nil ? 1 : 2
        text = text.next
        return text
    }

    func append(_ tokens: [Int32], to text: Text) throws -> [Float] {
        guard text == self.text else { throw ModelError.textEnded }
        appended += tokens
        var logits = Array(repeating: Float(0), count: 100)
        logits[Int(appended.last! + step)] = 1
        return logits
    }
}

@Suite struct GenerationTests {
    private let model = Counter()

    private func generate(
        _ prompt: [Int32], adapter: String? = nil, max: Int = 3, stop: Set<Int32> = []
    ) async throws -> [Int32] {
        let options = GenerationOptions(maxTokens: max, stopTokens: stop)
        var tokens: [Int32] = []
        for try await token in model.generate(prompt: prompt, adapter: adapter, options: options) {
            tokens.append(token)
        }
        return tokens
    }

    @Test func continuesThePrompt() async throws {
        #expect(try await generate([5, 20]) == [21, 22, 23])
        #expect(await model.appended == [5, 20, 21, 22])  // the last token is not appended
        #expect(await model.capacity == 4)
    }

    @Test func usesTheAdapter() async throws {
        #expect(try await generate([20], adapter: "double") == [22, 24, 26])
        #expect(try await generate([20]) == [21, 22, 23])
        await #expect(throws: ModelError.unknownAdapter("x", known: ["double"])) {
            try await generate([20], adapter: "x")
        }
    }

    @Test func errorsAreSentences() {
        let error: any Error = ModelError.unknownAdapter("x", known: ["a", "b"])
        #expect(error.localizedDescription == "there is no adapter x; the package has a, b")
    }

    @Test func stopTokensEndTheText() async throws {
        #expect(try await generate([20], stop: [22]) == [21])
        #expect(try await generate([20], stop: [21]) == [])
    }

    @Test func theContextEndsTheText() async throws {
        #expect(try await generate(Array(1...8), max: 50) == [9, 10, 11])
        #expect(try await generate(Array(1...10), max: 50) == [11])
        await #expect(throws: ModelError.tooLong(tokens: 11, context: 10)) {
            try await generate(Array(1...11))
        }
    }

    @Test func anEmptyPromptIsRefused() async {
        await #expect(throws: ModelError.noTokens) { try await generate([]) }
    }

    @Test func aConsumerThatStopsEndsTheGeneration() async throws {
        for try await token in model.generate(
            prompt: [1], options: GenerationOptions(maxTokens: 10))
        where token >= 3 {
            break
        }
        #expect(try await generate([20]) == [21, 22, 23])  // the model is free again
    }
}
