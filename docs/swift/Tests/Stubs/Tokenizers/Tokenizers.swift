// A stand-in for the module Tokenizers of huggingface/swift-transformers 1.3.3, for builds on
// Linux without a network. It declares what this package uses. It is no part of any product.

import Foundation

public typealias Message = [String: any Sendable]

public protocol Tokenizer: Sendable {
    func encode(text: String) -> [Int]
    func decode(tokens: [Int], skipSpecialTokens: Bool) -> String
    func applyChatTemplate(messages: [Message]) throws -> [Int]
    var eosTokenId: Int? { get }
    var hasChatTemplate: Bool { get }
}

public enum AutoTokenizer {
    public static func from(modelFolder: URL, strict: Bool = true) async throws -> any Tokenizer {
        throw CocoaError(.featureUnsupported)
    }
}
