/// The names that `afmq export` gives to the functions of a package.
///
/// An adapter has the functions of the base with its name appended: `decode_NAME`.
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

    /// The adapters that have the given function among names, sorted.
    public static func adapters(of function: String, among names: [String]) -> [String] {
        let prefix = function + "_"
        return names.filter { $0.hasPrefix(prefix) && $0.count > prefix.count }
            .map { String($0.dropFirst(prefix.count)) }
            .sorted()
    }
}
