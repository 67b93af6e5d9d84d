import AfmqGeneration
import Testing

@Suite struct TextPiecesTests {
    /// A tokenizer of bytes that drops a space at the beginning of a text, as those of
    /// SentencePiece do.
    private func decode(_ tokens: [Int]) -> String {
        let text = String(decoding: tokens.map(UInt8.init), as: UTF8.self)
        return text.hasPrefix(" ") ? String(text.dropFirst()) : text
    }

    private func pieces(_ bytes: some Sequence<UInt8>) -> [String] {
        var pieces = TextPieces(decode: decode)
        return bytes.map { pieces.append(Int32($0)) } + [pieces.finish()]
    }

    @Test func charactersOfSeveralTokens() {
        #expect(pieces("aé".utf8) == ["a", "", "é", ""])
        #expect(pieces("🙂!".utf8) == ["", "", "", "🙂", "!", ""])
    }

    @Test func spacesStay() {
        #expect(pieces("a b c".utf8).joined() == "a b c")
        #expect(pieces(" a  b".utf8).joined() == "a  b")
    }

    @Test func anIncompleteCharacterIsShownAtTheEnd() {
        #expect(pieces([0x61, 0xC3]) == ["a", "", "\u{FFFD}"])
    }

    @Test func textOfManyScripts() {
        let text = "Zażółć gęślą jaźń, 漢字かな交じり文, עברית, 👩‍👩‍👧‍👦 e\u{301}."
        #expect(pieces(text.utf8).joined() == text)
    }
}
