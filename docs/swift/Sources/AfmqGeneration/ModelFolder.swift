import Foundation

/// Where the files of an exported model are.
///
/// A model is given as a Core ML package (`NAME.mlpackage`, or `NAME.mlmodelc` once compiled), as
/// a Core AI bundle (a folder with metadata.json and `NAME.aimodel`), or as a folder with one
/// Core ML package and the tokenizer.
public struct ModelFolder: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
        case coreML
        /// The context is the one that the bundle declares, in tokens.
        case coreAI(contextLength: Int)
    }

    public let kind: Kind
    /// The package, or the `.aimodel` of a bundle.
    public let model: URL
    /// The folder with tokenizer.json and tokenizer_config.json.
    public let tokenizer: URL

    /// - Parameters:
    ///   - url: The package, the bundle or the folder.
    ///   - tokenizer: The folder of the tokenizer; by default the folder `tokenizer` of the
    ///     bundle, in the folder or beside the package.
    /// - Throws: ``ModelError/missing(_:in:)``, and what reading metadata.json throws.
    public init(_ url: URL, tokenizer: URL? = nil) throws {
        let files = FileManager.default
        guard files.fileExists(atPath: url.path) else { throw ModelError.absent(url) }
        let metadata = url.appending(path: "metadata.json")
        var folder = url
        if ["mlpackage", "mlmodelc"].contains(url.pathExtension) {
            kind = .coreML
            model = url
            folder = url.deletingLastPathComponent()
        } else if files.fileExists(atPath: metadata.path) {
            let bundle = try BundleMetadata(contentsOf: metadata)
            kind = .coreAI(contextLength: bundle.contextLength)
            model = url.appending(path: bundle.model)
        } else {
            let packages = try files.contentsOfDirectory(at: url, includingPropertiesForKeys: nil)
                .filter { ["mlpackage", "mlmodelc"].contains($0.pathExtension) }
                .sorted { $0.path < $1.path }
            guard let package = packages.first else {
                throw ModelError.missing("Core ML package and no metadata.json", in: url.path)
            }
            kind = .coreML
            model = package
        }
        self.tokenizer = tokenizer ?? folder.appending(path: "tokenizer")
        for file in [model, self.tokenizer.appending(path: "tokenizer.json")]
        where !files.fileExists(atPath: file.path) {
            throw ModelError.absent(file)
        }
    }
}

extension ModelError {
    fileprivate static func absent(_ file: URL) -> ModelError {
        .missing(file.lastPathComponent, in: file.deletingLastPathComponent().path)
    }
}

/// What a runner needs of a Core AI bundle's metadata.json, version 0.2.
struct BundleMetadata: Equatable {
    /// File name of the `.aimodel`.
    let model: String
    let contextLength: Int

    init(contentsOf url: URL) throws {
        let file = try JSONDecoder().decode(File.self, from: Data(contentsOf: url))
        guard file.version == "0.2" else {
            throw ModelError.missing("metadata_version 0.2", in: url.path)
        }
        guard let model = file.assets["main"] else {
            throw ModelError.missing("asset named main", in: url.path)
        }
        self.model = model
        contextLength = file.language.contextLength
    }

    private struct File: Decodable {
        let version: String
        let assets: [String: String]
        let language: Language

        enum CodingKeys: String, CodingKey {
            case version = "metadata_version"
            case assets, language
        }

        struct Language: Decodable {
            let contextLength: Int

            enum CodingKeys: String, CodingKey {
                case contextLength = "max_context_length"
            }
        }
    }
}
