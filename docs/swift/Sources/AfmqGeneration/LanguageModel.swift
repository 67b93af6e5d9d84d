import Foundation

/// A causal language model that keeps the keys and values of one text.
///
/// A text is begun with ``begin(adapter:capacity:)`` and grows by ``append(_:to:)``. A model works
/// on one text at a time: beginning another ends the one before.
public protocol LanguageModel: Sendable {
    /// Names of the adapters, sorted. The base has no name.
    var adapters: [String] { get }

    /// The number of tokens that a text can have at most.
    var contextLength: Int { get }

    /// Begins an empty text.
    ///
    /// The keys and values of one adapter are no use to another, so the adapter of a text is
    /// fixed when it begins.
    ///
    /// - Parameters:
    ///   - adapter: One of ``adapters``, or nil for the base.
    ///   - capacity: The number of tokens that will be appended at most.
    /// - Throws: ``ModelError`` if there is no such adapter or the capacity exceeds
    ///   ``contextLength``, and the errors of the framework that loads the functions.
    func begin(adapter: String?, capacity: Int) async throws -> Text

    /// Appends tokens to a text.
    ///
    /// - Returns: The logits of the token after the last one, one for each entry of the
    ///   vocabulary.
    /// - Throws: ``ModelError`` if the text has ended or would exceed its capacity, and the
    ///   errors of the framework that runs the model.
    func append(_ tokens: [Int32], to text: Text) async throws -> [Float]
}

/// A text that a model works on.
public struct Text: Sendable, Equatable {
    private let number: Int

    /// The text before the first one of a model.
    public static let none = Text(number: 0)

    private init(number: Int) { self.number = number }

    /// The text that a model begins after this one.
    public var next: Text { Text(number: number + 1) }
}

/// What a model refuses.
public enum ModelError: LocalizedError, Equatable {
    case noTokens
    case textEnded
    case unknownAdapter(String, known: [String])
    case tooLong(tokens: Int, context: Int)
    case missing(String, in: String)
    case noFiniteLogit

    public var errorDescription: String? {
        switch self {
        case .noTokens:
            "no tokens are given"
        case .textEnded:
            "the model has begun another text"
        case .unknownAdapter(let name, let known):
            "there is no adapter \(name); the package has "
                + (known.isEmpty ? "none" : known.joined(separator: ", "))
        case .tooLong(let tokens, let context):
            "\(tokens) tokens exceed the context of \(context)"
        case .missing(let what, let place):
            "\(place) has no \(what)"
        case .noFiniteLogit:
            "the model yields no finite logit; its activations may exceed the range of fp16"
        }
    }
}
