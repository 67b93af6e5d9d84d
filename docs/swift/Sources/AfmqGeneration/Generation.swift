/// How a text is continued.
public struct GenerationOptions: Sendable, Equatable {
    /// Tokens to generate at most.
    public var maxTokens: Int
    /// 0 chooses the most likely token.
    public var temperature: Float
    public var seed: UInt64
    /// Tokens that end the text; they are not part of it.
    public var stopTokens: Set<Int32>

    public init(
        maxTokens: Int = 128, temperature: Float = 0, seed: UInt64 = 0, stopTokens: Set<Int32> = []
    ) {
        self.maxTokens = maxTokens
        self.temperature = temperature
        self.seed = seed
        self.stopTokens = stopTokens
    }
}

extension LanguageModel {
    /// Continues a prompt.
    ///
    /// Generation ends at a stop token, after `maxTokens`, where the context is full, or when the
    /// consumer of the stream stops.
    public func generate(
        prompt: [Int32], adapter: String? = nil, options: GenerationOptions = GenerationOptions()
    ) -> AsyncThrowingStream<Int32, any Error> {
        AsyncThrowingStream { continuation in
            let task = Task {
                do {
                    try await run(prompt: prompt, adapter: adapter, options: options) {
                        continuation.yield($0)
                    }
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
            continuation.onTermination = { _ in task.cancel() }
        }
    }

    private func run(
        prompt: [Int32], adapter: String?, options: GenerationOptions,
        yield: (Int32) -> Void
    ) async throws {
        guard !prompt.isEmpty else { throw ModelError.noTokens }
        guard prompt.count <= contextLength else {
            throw ModelError.tooLong(tokens: prompt.count, context: contextLength)
        }
        guard options.maxTokens > 0 else { return }

        // The last token is not appended, so a full context still yields one.
        let limit = min(options.maxTokens, contextLength - prompt.count + 1)
        let text = try await begin(adapter: adapter, capacity: prompt.count + limit - 1)
        var sampler = Sampler(temperature: options.temperature, seed: options.seed)
        var logits = try await append(prompt, to: text)
        for count in 1...limit {
            try Task.checkCancellation()
            let token = try sampler.choose(from: logits)
            if options.stopTokens.contains(token) { return }
            yield(token)
            if count < limit { logits = try await append([token], to: text) }
        }
    }
}
