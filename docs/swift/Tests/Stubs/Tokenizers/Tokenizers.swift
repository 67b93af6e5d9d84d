// A stand-in for the module Tokenizers of huggingface/swift-transformers 1.3.3, for builds and tests
// on Linux without a network. It declares what this package uses, and its only tokenizer takes the
// bytes of a text as tokens. It is no part of any product.

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
        Bytes()
    }
}

private struct Bytes: Tokenizer {
    let eosTokenId: Int? = 0
    let hasChatTemplate = true

    func encode(text: String) -> [Int] { text.utf8.map(Int.init) }

    func decode(tokens: [Int], skipSpecialTokens: Bool) -> String {
        String(decoding: tokens.map(UInt8.init), as: UTF8.self)
    }

    func applyChatTemplate(messages: [Message]) throws -> [Int] {
        encode(text: messages.map { "<\($0["role"]!)>\($0["content"]!)" }.joined())
    }
}
