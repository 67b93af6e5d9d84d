/// The arguments of `afmq-run`.
public struct RunArguments: Sendable, Equatable {
    public static let usage = """
        usage: afmq-run PACKAGE --prompt TEXT [flags]

        Continues a prompt with a model that afmq export wrote. PACKAGE is a Core ML
        package, a Core AI bundle, or a folder with a Core ML package and a tokenizer.

          --prompt TEXT      the prompt
          --chat             give the prompt in the chat template of the tokenizer
          --adapter NAME     use an adapter of the package
          --tokens N         generate at most N tokens (default 128)
          --temperature T    sample at this temperature; 0, the default, chooses the
                             most likely token
          --seed N           seed of sampling (default 0)
          --tokenizer DIR    folder with tokenizer.json and tokenizer_config.json
                             (default: the folder "tokenizer" of the bundle, or
                             beside the package)
          --no-prefill       Core ML: give the prompt one token at a time
          --list-adapters    print the names of the adapters and stop
          --help             print this text and stop
        """

    public var package = ""
    public var prompt = ""
    public var chat = false
    public var adapter: String?
    public var tokenizer: String?
    public var prefill = true
    public var listAdapters = false
    public var help = false
    public var options = GenerationOptions()

    /// - Parameter arguments: Those after the program's name.
    /// - Throws: ``UsageError``.
    public init(_ arguments: [String]) throws {
        var rest = arguments[...]
        var packages: [String] = []
        while let argument = rest.popFirst() {
            guard argument.hasPrefix("--") else {
                packages.append(argument)
                continue
            }
            let parts = argument.split(
                separator: "=", maxSplits: 1, omittingEmptySubsequences: false
            ).map(String.init)
            if try set(switch: parts[0], hasValue: parts.count > 1) { continue }
            guard Self.valued.contains(parts[0]) else {
                throw UsageError("unknown flag \(parts[0])")
            }
            guard let value = parts.count > 1 ? parts[1] : rest.popFirst() else {
                throw UsageError("\(parts[0]) needs a value")
            }
            try set(parts[0], to: value)
        }
        if help { return }
        guard packages.count == 1 else {
            throw UsageError(packages.isEmpty ? "PACKAGE is missing" : "more than one PACKAGE")
        }
        package = packages[0]
        if prompt.isEmpty && !listAdapters { throw UsageError("--prompt is missing") }
    }

    private static let valued: Set = [
        "--prompt", "--adapter", "--tokens", "--temperature", "--seed", "--tokenizer",
    ]

    /// Sets a flag that takes no value and reports whether it is one.
    private mutating func set(switch flag: String, hasValue: Bool) throws -> Bool {
        switch flag {
        case "--chat": chat = true
        case "--no-prefill": prefill = false
        case "--list-adapters": listAdapters = true
        case "--help": help = true
        default: return false
        }
        if hasValue { throw UsageError("\(flag) takes no value") }
        return true
    }

    private mutating func set(_ flag: String, to value: String) throws {
        switch flag {
        case "--prompt": prompt = value
        case "--adapter": adapter = value
        case "--tokenizer": tokenizer = value
        case "--tokens":
            options.maxTokens = try Self.number(value, of: flag) { $0 > 0 }
        case "--temperature":
            options.temperature = try Self.number(value, of: flag) { $0 >= 0 && $0.isFinite }
        default:
            options.seed = try Self.number(value, of: flag) { _ in true }
        }
    }

    private static func number<N: LosslessStringConvertible>(
        _ text: String, of flag: String, where valid: (N) -> Bool
    ) throws -> N {
        guard let number = N(text), valid(number) else {
            throw UsageError("\(flag) cannot be \(text)")
        }
        return number
    }
}

/// A wrong command line.
public struct UsageError: Error, Equatable, CustomStringConvertible {
    public let description: String

    init(_ description: String) { self.description = description }
}
