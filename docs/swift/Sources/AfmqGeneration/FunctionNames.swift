/// The names that `afmq export` gives to the functions of a package.
///
/// An adapter has the functions of the base with its name appended: `decode_NAME`. In NAME, what
/// is no ASCII letter, digit or underscore is an underscore.
public enum FunctionNames {
    /// Core ML: one token.
    public static let decode = "decode"
    /// Core ML: a chunk of a prompt.
    public static let prefill = "prefill"
    /// Core AI: any number of tokens.
    public static let main = "main"

    /// The name of a function of the base with an adapter.
    public static func name(_ function: String, adapter: String?) -> String {
        adapter.map { "\(function)_\($0)" } ?? function
    }

    /// The name that a package has for an adapter.
    ///
    /// - Parameters:
    ///   - adapter: As it was given to `afmq export`, or as it is in the package; nil for the base.
    ///   - known: The adapters of the package.
    /// - Throws: ``ModelError/unknownAdapter(_:known:)``.
    public static func find(_ adapter: String?, among known: [String]) throws -> String? {
        guard let adapter else { return nil }
        let plain = adapter.unicodeScalars.map { scalar in
            let character = Character(scalar)
            return character.isASCII && (character.isLetter || character.isNumber)
                ? character : "_"
        }
        guard let name = [adapter, String(plain)].first(where: known.contains) else {
            throw ModelError.unknownAdapter(adapter, known: known)
        }
        return name
    }

    /// The adapters that have the given function among names, sorted.
    public static func adapters(of function: String, among names: [String]) -> [String] {
        let prefix = function + "_"
        return names.filter { $0.hasPrefix(prefix) && $0.count > prefix.count }
            .map { String($0.dropFirst(prefix.count)) }
            .sorted()
    }
}
