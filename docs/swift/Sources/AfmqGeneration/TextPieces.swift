/// Turns a stream of tokens into pieces of text.
///
/// Tokens cannot be decoded one by one: a character may take several, and a tokenizer may treat
/// the first token of a text differently. So each piece is the difference of two decodings that
/// begin at the same token.
public struct TextPieces {
    private let decode: ([Int]) -> String
    private var tokens: [Int] = []
    private var shown = 0  // tokens whose text has been returned
    private var start = 0  // where decoding begins

    public init(decode: @escaping ([Int]) -> String) {
        self.decode = decode
    }

    /// The text that a token completes; empty within a character.
    public mutating func append(_ token: Int32) -> String {
        tokens.append(Int(token))
        return take { !$0.hasSuffix("\u{FFFD}") }
    }

    /// The text of the last tokens, also if they end within a character.
    public mutating func finish() -> String {
        take { _ in true }
    }

    private mutating func take(where complete: (String) -> Bool) -> String {
        let before = decode(Array(tokens[start..<shown]))
        let after = decode(Array(tokens[start...]))
        guard after.utf8.count > before.utf8.count, complete(after) else { return "" }
        start = shown
        shown = tokens.count
        return String(decoding: after.utf8.dropFirst(before.utf8.count), as: UTF8.self)
    }
}
