import AfmqGeneration
import Foundation
import Tokenizers

/// A model with its tokenizer: text in, text out.
public struct TextModel: Sendable {
    private let model: any LanguageModel
    private let tokenizer: any Tokenizer
    private let stopTokens: Set<Int32>

    /// - Parameters:
    ///   - folder: The files of the model.
    ///   - prefill: False gives prompts to a Core ML package one token at a time.
    /// - Throws: What opening the model or reading the tokenizer throws.
    public init(_ folder: ModelFolder, prefill: Bool = true) async throws {
        tokenizer = try await AutoTokenizer.from(modelFolder: folder.tokenizer)
        var stopTokens = try StopTokens.read(from: folder.tokenizer)
        if let token = tokenizer.eosTokenId { stopTokens.insert(Int32(token)) }
        self.stopTokens = stopTokens
        model = try await folder.open(prefill: prefill)
    }

    public var adapters: [String] { model.adapters }

    /// Whether the tokenizer has a template for conversations.
    public var hasChatTemplate: Bool { tokenizer.hasChatTemplate }

    /// Answers a prompt.
    ///
    /// - Parameters:
    ///   - adapter: The name of an adapter, or nil for the base.
    ///   - chat: Gives the prompt as the message of a user, in the template of the tokenizer.
    ///   - options: Its stop tokens are added to those of the model.
    /// - Returns: Pieces of the answer as they are generated.
    public func answer(
        to prompt: String, adapter: String? = nil, chat: Bool = false,
        options: GenerationOptions = GenerationOptions()
    ) throws -> AsyncThrowingStream<String, any Error> {
        let ids: [Int]
        if chat {
            ids = try tokenizer.applyChatTemplate(messages: [["role": "user", "content": prompt]])
        } else {
            ids = tokenizer.encode(text: prompt)
        }
        var options = options
        options.stopTokens.formUnion(stopTokens)
        return pieces(
            of: model.generate(prompt: ids.map(Int32.init), adapter: adapter, options: options))
    }

    private func pieces(
        of tokens: AsyncThrowingStream<Int32, any Error>
    ) -> AsyncThrowingStream<String, any Error> {
        AsyncThrowingStream { continuation in
            let task = Task {
                var pieces = TextPieces { tokenizer.decode(tokens: $0, skipSpecialTokens: true) }
                do {
                    for try await token in tokens {
                        let piece = pieces.append(token)
                        if !piece.isEmpty { continuation.yield(piece) }
                    }
                    continuation.yield(pieces.finish())
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
            continuation.onTermination = { _ in task.cancel() }
        }
    }
}
